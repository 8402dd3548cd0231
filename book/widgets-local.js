// Loaded between require.js and the widget manager, on every page that holds a widget.

// Modules that a widget asks for by name ("anywidget") lie beside this file.
require.config({ baseUrl: new URL(".", document.currentScript.src).href });

// The theme's Font Awesome turns every new <i> element into an <svg>. The Play button of ipywidgets
// keeps its icons in <i> elements and stops working when they disappear.
window.FontAwesomeConfig = { observeMutations: false };
