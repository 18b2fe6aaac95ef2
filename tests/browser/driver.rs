//! A real browser, driven over W3C WebDriver and, where that says nothing about it, over the
//! browser's own protocol through the driver. Headless, with a profile of its own, without a sandbox
//! because the tests run as root, too.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::rig::Process;

/// How long starting the browser, and any one thing in it, may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The screens that pages must be good on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Screen {
    /// An office's monitor.
    Desk,
    /// A small telephone.
    Telephone,
}

impl Screen {
    pub const BOTH: [Screen; 2] = [Screen::Desk, Screen::Telephone];

    pub fn size(self) -> (u32, u32) {
        match self {
            Screen::Desk => (1366, 768),
            Screen::Telephone => (360, 740),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Screen::Desk => "desk",
            Screen::Telephone => "phone",
        }
    }
}

/// A key as WebDriver writes it.
pub const TAB: &str = "\u{e004}";
pub const ENTER: &str = "\u{e007}";
pub const SPACE: &str = " ";

pub struct Browser {
    agent: ureq::Agent,
    /// Of the session, without a slash at its end.
    address: String,
    /// What the browser has said of its requests and faults since it was last asked.
    said: RefCell<Said>,
    // In this order: the driver ends before its folder goes.
    _driver: Process,
    _folder: tempfile::TempDir,
}

/// What pages did that nobody sees.
#[derive(Debug, Default)]
pub struct Said {
    /// Address of each request.
    pub requests: BTreeSet<String>,
    /// Errors and warnings of the console, violations of the content policy among them.
    pub console: Vec<String>,
}

/// It takes a free port of IPv4 and ends when another program has that of IPv6.
const DRIVER_TRIES: u32 = 10;

/// A driver and its port; none when it has ended.
fn start_driver(log: &Path) -> Option<(Process, u16)> {
    let _ = fs::remove_file(log);
    let mut command = Command::new("chromedriver");
    command.arg("--port=0");
    let mut driver = Process::start("chromedriver (.ci/setup)", &mut command, log);
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until && driver.wait(Duration::from_millis(50)).is_none() {
        let text = fs::read_to_string(log).unwrap_or_default();
        let found = text.split("successfully on port ").nth(1);
        if let Some(port) = found.and_then(|rest| rest.split('.').next()?.parse().ok()) {
            return Some((driver, port));
        }
    }
    None
}

impl Browser {
    pub fn start() -> Browser {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("driver.log");
        let started = (0..DRIVER_TRIES).find_map(|_| start_driver(&log));
        let (driver, port) = started.expect("chromedriver (.ci/setup) starts");
        let root = format!("http://127.0.0.1:{port}");
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build()
            .into();
        let profile = folder.path().join("profile");
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
            "--hide-scrollbars",
            "--force-color-profile=srgb",
            "--font-render-hinting=none",
            "--lang=vi",
            &format!("--user-data-dir={}", profile.display()),
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"performance": "ALL", "browser": "ALL"},
        }}});
        let answer = call(&agent, "POST", &format!("{root}/session"), Some(&wanted));
        let id = answer["sessionId"].as_str().expect("a session").to_owned();
        let browser = Browser {
            agent,
            address: format!("{root}/session/{id}"),
            said: RefCell::default(),
            _driver: driver,
            _folder: folder,
        };
        browser.use_screen(Screen::Desk);
        // The page that the browser begins with is not ours.
        browser.open("about:blank");
        browser.take_said();
        browser
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let address = format!("{}{path}", self.address);
        call(&self.agent, "POST", &address, Some(body))
    }

    /// Opens a page and waits until it has loaded.
    pub fn open(&self, address: &str) {
        self.post("/url", &json!({"url": address}));
    }

    pub fn address(&self) -> String {
        let address = format!("{}/url", self.address);
        let found = call(&self.agent, "GET", &address, None);
        found.as_str().expect("an address").to_owned()
    }

    /// Runs the body of a function in the page.
    pub fn run(&self, body: &str, arguments: &[Value]) -> Value {
        self.post("/execute/sync", &json!({"script": body, "args": arguments}))
    }

    /// The same for one that calls its last argument with the result.
    pub fn run_and_wait(&self, body: &str, arguments: &[Value]) -> Value {
        self.post(
            "/execute/async",
            &json!({"script": body, "args": arguments}),
        )
    }

    /// A command of the browser's own protocol.
    pub fn command(&self, name: &str, parameters: &Value) -> Value {
        self.post(
            "/goog/cdp/execute",
            &json!({"cmd": name, "params": parameters}),
        )
    }

    /// Everything that is to be read on the page, as a person sees it.
    pub fn text(&self) -> String {
        let text = self.run("return document.body.innerText", &[]);
        text.as_str().expect("text").to_owned()
    }

    pub fn use_screen(&self, screen: Screen) {
        let (width, height) = screen.size();
        let is_mobile = screen == Screen::Telephone;
        self.command(
            "Emulation.setDeviceMetricsOverride",
            &json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_mobile}),
        );
    }

    pub fn set_scripts(&self, are_on: bool) {
        self.command(
            "Emulation.setScriptExecutionDisabled",
            &json!({"value": !are_on}),
        );
    }

    /// Presses keys one after the other, wherever the focus is.
    pub fn press(&self, keys: &[&str]) {
        let pressed = keys.iter().flat_map(|key| {
            [
                json!({"type": "keyDown", "value": key}),
                json!({"type": "keyUp", "value": key}),
            ]
        });
        let pressed: Vec<Value> = pressed.collect();
        self.post(
            "/actions",
            &json!({"actions": [{"type": "key", "id": "keys", "actions": pressed}]}),
        );
    }

    /// Types a text, wherever the focus is.
    pub fn write(&self, text: &str) {
        let keys: Vec<String> = text.chars().map(String::from).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        self.press(&keys);
    }

    /// A picture of the whole page, or of its upper part, `tall` at the most.
    pub fn picture_as(&self, format: &str, tall: Option<u32>) -> Vec<u8> {
        let size =
            "return [document.documentElement.clientWidth, document.documentElement.scrollHeight]";
        let size = self.run(size, &[]);
        let (width, whole) = (size[0].as_u64().unwrap(), size[1].as_u64().unwrap());
        let height = tall.map_or(whole, |tall| whole.min(u64::from(tall)));
        let clip = json!({"x": 0, "y": 0, "width": width, "height": height, "scale": 1});
        let shot = self.command(
            "Page.captureScreenshot",
            &json!({"format": format, "quality": 60, "captureBeyondViewport": true, "clip": clip}),
        );
        BASE64.decode(shot["data"].as_str().unwrap()).unwrap()
    }

    /// Adds what was requested and complained about since the last time.
    fn listen(&self) {
        let mut said = self.said.borrow_mut();
        let lines = self.post("/se/log", &json!({"type": "performance"}));
        for line in lines.as_array().expect("lines") {
            let line: Value = serde_json::from_str(line["message"].as_str().unwrap()).unwrap();
            if line["message"]["method"] == "Network.requestWillBeSent" {
                let url = line["message"]["params"]["request"]["url"].as_str();
                said.requests.insert(url.unwrap().to_owned());
            }
        }
        let lines = self.post("/se/log", &json!({"type": "browser"}));
        for line in lines.as_array().expect("lines") {
            let message = line["message"].as_str().unwrap();
            said.console.push(format!("{}: {message}", line["level"]));
        }
    }

    /// What the pages did since this was last asked.
    pub fn take_said(&self) -> Said {
        self.listen();
        self.said.take()
    }
}

impl Drop for Browser {
    /// The driver ends its browser with the session; killed, it would leave it behind.
    fn drop(&mut self) {
        let _ = self.agent.delete(&self.address).call();
    }
}

fn call(agent: &ureq::Agent, method: &str, address: &str, body: Option<&Value>) -> Value {
    let sent = match body {
        Some(body) => agent.post(address).send_json(body),
        None => agent.get(address).call(),
    };
    let mut answer = sent.unwrap_or_else(|error| panic!("{method} {address}: {error}"));
    let limit = answer.body_mut().with_config().limit(256 * 1024 * 1024);
    let text = limit.read_to_string().unwrap();
    let value: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
    let value = value["value"].clone();
    assert!(
        answer.status().is_success(),
        "{method} {address}: {} {}",
        value["error"],
        value["message"]
    );
    value
}

/// Where pictures are kept for people to look at.
pub fn pictures() -> PathBuf {
    // target/tmp/.. is wherever this build's files are.
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("../pictures");
    fs::create_dir_all(&folder).unwrap();
    folder
}
