// What scrolls sideways can be reached, and scrolled, by keyboard, and has a name.
document.addEventListener("DOMContentLoaded", () => {
  const names = [[".pst-scrollable-table-container", "Table, scrolls sideways"], [".cell_output", "Output, scrolls sideways"],
    ["pre", "Code, scrolls sideways"], ["mjx-container[display='true']", "Formula, scrolls sideways"]];
  const look = () => {
    for (const [selector, name] of names) {
      for (const element of document.querySelectorAll(`.bd-article ${selector}`)) {
        if (element.scrollWidth > element.clientWidth + 1 && !element.hasAttribute("tabindex")) {
          element.tabIndex = 0;
          element.setAttribute("role", "group");
          element.setAttribute("aria-label", name);
        }
      }
    }
  };
  look();
  window.addEventListener("resize", look);
  window.addEventListener("load", look);
  document.addEventListener("toggle", look, true);
});
