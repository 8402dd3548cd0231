"""The course's own answers, lesson by lesson."""
