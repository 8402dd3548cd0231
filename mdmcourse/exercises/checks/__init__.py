"""What has to be true of an answer, lesson by lesson."""
