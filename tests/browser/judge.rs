//! What holds for every page in every state: no fault of accessibility, nothing wider than the
//! screen, no request to elsewhere, no complaint of the browser, and only the language that it
//! speaks.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::driver::{Browser, Screen, pictures};
use crate::manual;
use crate::office::origin;
use crate::one_box::{XA, one_box};

/// Rules of WCAG 2.1 A and AA and what is good practice beyond.
const RULES: [&str; 5] = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"];

fn axe() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/browser/node_modules/axe-core/axe.min.js");
    fs::read_to_string(path).expect("axe-core is installed (bash .ci/setup)")
}

/// What axe-core finds, a line for each element.
pub fn faults_of_access(browser: &Browser) -> Vec<String> {
    const RUN: &str = "
        var done = arguments[arguments.length - 1];
        axe.run(document, {runOnly: {type: 'tag', values: arguments[0]}, resultTypes: ['violations']})
            .then(function (found) { done(found.violations); }, function (error) { done(String(error)); });";
    let script = format!("{}\n{RUN}", axe());
    let found = browser.run_and_wait(&script, &[json!(RULES)]);
    let rules = found
        .as_array()
        .unwrap_or_else(|| panic!("axe-core fails: {found}"));
    let mut faults = Vec::new();
    for rule in rules {
        for node in rule["nodes"].as_array().unwrap() {
            faults.push(format!(
                "{} ({}): {} | {}",
                rule["id"].as_str().unwrap(),
                rule["help"].as_str().unwrap(),
                node["html"].as_str().unwrap(),
                node["failureSummary"]
                    .as_str()
                    .unwrap_or_default()
                    .replace('\n', " ")
            ));
        }
    }
    faults
}

/// How far the page reaches beyond the screen, pixels, and what does.
pub fn too_wide(browser: &Browser, screen: Screen) -> Option<String> {
    const WIDEST: &str = "
        var most = arguments[0], found = [];
        if (document.documentElement.scrollWidth <= most) { return null; }
        [].forEach.call(document.body.querySelectorAll('*'), function (e) {
            var right = e.getBoundingClientRect().right;
            if (right > most + 0.5) { found.push(Math.round(right) + ' ' + e.outerHTML.slice(0, 120)); }
        });
        return document.documentElement.scrollWidth + ': ' + found.slice(0, 5).join(' | ');";
    let found = browser.run(WIDEST, &[json!(screen.size().0)]);
    found.as_str().map(str::to_owned)
}

/// Text in the language that the page does not speak, without what is marked as being in it.
pub fn of_other_language(browser: &Browser, lang: &str) -> Vec<String> {
    const TEXTS: &str = "
        var found = [];
        var walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        while (walk.nextNode()) {
            var node = walk.currentNode, parent = node.parentElement;
            if (!node.data.trim() || parent.closest('style,script,noscript,code,pre')) { continue; }
            if (parent.closest('[lang]').getAttribute('lang') !== arguments[0]) { continue; }
            found.push(node.data.trim());
        }
        [].forEach.call(document.querySelectorAll('[aria-label],[title],[alt],[data-lost]'), function (e) {
            if (e.closest('[lang]').getAttribute('lang') !== arguments[0]) { return; }
            ['aria-label', 'title', 'alt', 'data-lost'].forEach(function (name) {
                if (e.getAttribute(name)) { found.push(e.getAttribute(name)); }
            });
        }.bind(null));
        found.push(document.title);
        return found;";
    let texts = TEXTS.replace("arguments[0]", &format!("'{lang}'"));
    let texts = browser.run(&texts, &[]);
    let texts = texts.as_array().unwrap().iter();
    let texts = texts.map(|text| text.as_str().unwrap().to_owned());
    // What is masked is the office's own.
    let texts = texts.filter(|text| !text.contains("••••"));
    let is_foreign = |text: &String| match lang {
        "en" => has_vietnamese(text),
        _ => has_english(text),
    };
    texts.filter(is_foreign).collect()
}

/// Letters that only Vietnamese has, of the languages here.
pub fn has_vietnamese(text: &str) -> bool {
    text.chars().any(|c| {
        matches!(c, '\u{1ea0}'..='\u{1ef9}')
            || "ăâđêôơưĂÂĐÊÔƠƯàáãèéìíòóõùúýÀÁÃÈÉÌÍÒÓÕÙÚÝ".contains(c)
    })
}

/// Words that no Vietnamese sentence has.
fn has_english(text: &str) -> bool {
    const WORDS: [&str; 22] = [
        "the", "and", "of", "is", "are", "was", "no", "not", "nothing", "waits", "records",
        "since", "by", "hub", "see", "with", "from", "this", "rows", "days", "source", "refused",
    ];
    let mut words = text.split(|c: char| !c.is_alphanumeric() && !"-_.".contains(c));
    words.any(|word| WORDS.contains(&word.to_lowercase().as_str()))
}

/// Judges the page that is open now. `name` is the state's; the faults come back all at once.
pub fn judge(browser: &Browser, name: &str, screen: Screen, lang: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut note = |kind: &str, fault: String| {
        faults.push(format!(
            "{name}, {}, {lang}: {kind}: {fault}",
            screen.name()
        ));
    };
    if let Some(wide) = too_wide(browser, screen) {
        note("wider than the screen", wide);
    }
    for fault in faults_of_access(browser) {
        note("axe", fault);
    }
    for text in of_other_language(browser, lang) {
        note("other language", text);
    }
    faults
}

/// What pages asked for elsewhere, and what the browser complained about, since this was last asked.
pub fn misdeeds(browser: &Browser, origin: &str) -> Vec<String> {
    let said = browser.take_said();
    let is_ours = |url: &String| url.starts_with(&format!("{origin}/"));
    let elsewhere = said.requests.iter().filter(|url| !is_ours(url));
    let mut faults: Vec<String> = elsewhere
        .map(|url| format!("a request to elsewhere: {url}"))
        .collect();
    faults.extend(said.console);
    faults
}

/// Keeps a picture of the page for people to look at.
pub fn keep_picture(browser: &Browser, name: &str, screen: Screen) {
    let path = pictures().join(format!("{name}-{}.png", screen.name()));
    fs::write(path, browser.picture_as("png", None)).unwrap();
    manual::keep(browser, name, screen);
}

/// What is planted into the good page of a box, and the word by which it is found.
const PLANTED: [(&str, &str); 6] = [
    (
        "var e = document.createElement('img'); e.alt = ''; e.src = 'http://127.0.0.2:1/x.png'; document.body.appendChild(e);",
        "img-src",
    ),
    (
        "document.getElementById('main').insertAdjacentHTML('beforeend', '<section class=box><input type=text></section>');",
        "label",
    ),
    (
        "document.querySelector('.light p:last-child').style.color = '#bbb';",
        "color-contrast",
    ),
    (
        "document.querySelector('.light p').textContent = 'The box takes data in.';",
        "other language",
    ),
    (
        "document.querySelector('.light').insertAdjacentHTML('beforeend', '<pre>' + 'x'.repeat(400) + '</pre>');",
        "wider than the screen",
    ),
    (
        "var e = document.createElement('script'); e.textContent = '1'; document.body.appendChild(e);",
        "Content Security Policy",
    ),
];

#[test]
fn the_judge_is_no_yes_man() {
    let mut rig = one_box();
    rig.start_box(XA);
    let browser = Browser::start();
    browser.use_screen(Screen::Telephone);
    for (fault, word) in PLANTED {
        browser.open(&origin(&rig));
        assert_eq!(judge(&browser, "good", Screen::Telephone, "vi"), [""; 0]);
        assert_eq!(misdeeds(&browser, &origin(&rig)), [""; 0]);
        browser.run(fault, &[]);
        std::thread::sleep(Duration::from_millis(200));
        let mut found = judge(&browser, "planted", Screen::Telephone, "vi");
        found.extend(misdeeds(&browser, &origin(&rig)));
        assert!(
            found.iter().any(|fault| fault.contains(word)),
            "{word} is not found: {found:?}"
        );
    }
    // A page that lets itself be led elsewhere.
    browser.open("data:text/html,<title>x</title><img src='http://127.0.0.2:1/x.png'>");
    let found = misdeeds(&browser, &origin(&rig));
    let elsewhere = |fault: &String| fault.starts_with("a request to elsewhere: http://127.0.0.2");
    assert!(found.iter().any(elsewhere), "{found:?}");
    // Vietnamese on an English page.
    browser.open(&format!("{}/?lang=en", origin(&rig)));
    assert_eq!(of_other_language(&browser, "en"), [""; 0]);
    browser.run(
        "document.querySelector('.light p').textContent = 'Trạm đang nhận'",
        &[],
    );
    assert_eq!(of_other_language(&browser, "en"), ["Trạm đang nhận"]);
}
