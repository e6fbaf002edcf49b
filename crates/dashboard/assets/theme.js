// Applies the chosen theme before the first paint. Without a choice, the page uses the system's theme.
(() => {
  const theme = localStorage.getItem("isomer-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
})();
