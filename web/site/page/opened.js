// A plain script, because modules do not load from files: tells a visitor who opened index.html from a disk.
if (location.protocol === "file:") {
  document.getElementById("opened").hidden = false;
  document.getElementById("state").textContent = "Not started";
}
