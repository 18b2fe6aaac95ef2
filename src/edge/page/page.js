"use strict";
// Renews the page's sections that have changed, so that the focus, what is unfolded and the place of a
// screen reader stay. The page works without it.
(function () {
  var main = document.getElementById("main");
  var news = document.getElementById("news");
  if (!main || !news || !window.DOMParser) { return; }
  var every = 30000;
  var isLost = false;
  function later() { window.setTimeout(look, every); }
  function say(text) { if (news.textContent !== text) { news.textContent = text; } }
  function renew(box, fresh) {
    var unfolded = [].map.call(box.querySelectorAll("details[open]"), function (d) { return d.id; });
    var focus = document.activeElement;
    var id = focus && box.contains(focus) ? focus.id : "";
    box.innerHTML = fresh.innerHTML;
    unfolded.forEach(function (name) {
      var again = document.getElementById(name);
      if (again) { again.setAttribute("open", ""); }
    });
    var back = id && document.getElementById(id);
    if (back) { back.focus({ preventScroll: true }); }
  }
  function take(html) {
    var fresh = new window.DOMParser().parseFromString(html, "text/html").getElementById("main");
    if (!fresh) { return; }
    var old = main.children;
    var same = old.length === fresh.children.length;
    for (var i = 0; same && i < old.length; i++) { same = old[i].id === fresh.children[i].id; }
    var word = fresh.getAttribute("data-lights");
    var isNews = word !== main.getAttribute("data-lights");
    if (!same) {
      renew(main, fresh);
    } else {
      for (var j = 0; j < old.length; j++) {
        // What is unfolded is no difference.
        if (old[j].innerHTML.replace(/ open=""/g, "") !== fresh.children[j].innerHTML) {
          renew(old[j], fresh.children[j]);
        }
      }
    }
    main.setAttribute("data-lights", word);
    if (isNews || isLost) { say(word); }
    isLost = false;
  }
  function look() {
    if (document.hidden) { return later(); }
    var ask = new XMLHttpRequest();
    ask.open("GET", window.location.pathname + window.location.search);
    ask.timeout = 20000;
    ask.onload = function () { if (ask.status === 200) { take(ask.responseText); } later(); };
    ask.onerror = ask.ontimeout = function () {
      isLost = true;
      say(news.getAttribute("data-lost"));
      later();
    };
    ask.send();
  }
  later();
})();
