//! A Chromium without a window, asked over its DevTools protocol: NUL-separated JSON on two pipes.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

/// `DETGATE_CHROMIUM`, or a Chromium of this machine; `None` after saying that the test is skipped.
pub(crate) fn browser() -> Option<PathBuf> {
    let named =
        std::env::var_os("DETGATE_CHROMIUM").filter(|name| !name.is_empty()).map(PathBuf::from);
    let folders: Vec<PathBuf> =
        std::env::var_os("PATH").iter().flat_map(std::env::split_paths).collect();
    let found = || {
        let names = ["chromium", "chromium-browser", "google-chrome"];
        names
            .iter()
            .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
            .find(|path| path.is_file())
    };
    let program = named.or_else(found);
    if program.is_none() {
        skipped("Chromium: install it, or name it in DETGATE_CHROMIUM");
    }
    program
}

pub(crate) fn skipped(needed: &str) {
    let name = std::thread::current().name().unwrap_or("test").to_owned();
    let _ = writeln!(std::io::stderr(), "skipped: {name} needs {needed}");
}

/// One page in a browser of its own.
pub(crate) struct Tab {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    session: Option<String>,
    last_id: u64,
    /// What the page complained of: exceptions, console errors, refusals of its security policy.
    complaints: Vec<String>,
    _profile: tempfile::TempDir,
}

impl Tab {
    /// Opens a page of the disk and waits until it is loaded; `None` where there is no browser.
    pub(crate) fn open(path: &std::path::Path) -> Option<Self> {
        let program = browser()?;
        let profile = tempfile::tempdir().unwrap();
        // The protocol wants the descriptors 3 and 4, which a shell can give without unsafe code.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1"])
            .arg(program)
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--hide-scrollbars",
                "--no-first-run",
                "--remote-debugging-pipe",
                "--window-size=1280,900",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (from, complaints) = (BufReader::new(from), Vec::new());
        let mut tab =
            Self { child, to, from, session: None, last_id: 0, complaints, _profile: profile };
        let target = tab.call("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = tab.call("Target.attachToTarget", attach);
        tab.session = Some(session["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            tab.call(domain, json!({}));
        }
        tab.call("Page.navigate", json!({"url": format!("file://{}", path.display())}));
        tab.wait_for("Page.loadEventFired");
        Some(tab)
    }

    /// Asks the browser and returns its answer.
    pub(crate) fn call(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let mut message = json!({"id": self.last_id, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let mut answer = self.receive();
            if answer["id"] == self.last_id {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].take();
            }
        }
    }

    fn receive(&mut self) -> Value {
        let mut text = Vec::new();
        self.from.read_until(0, &mut text).unwrap();
        assert_eq!(text.pop(), Some(0), "the browser ended");
        let message: Value = serde_json::from_slice(&text).unwrap();
        let params = &message["params"];
        let is_complaint = match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => params["type"] == "error",
            Some("Log.entryAdded") => params["entry"]["level"] == "error",
            _ => false,
        };
        if is_complaint {
            self.complaints.push(params.to_string());
        }
        message
    }

    fn wait_for(&mut self, event: &str) {
        while self.receive()["method"] != event {}
    }

    /// The value of an expression, as JSON.
    pub(crate) fn eval(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let mut answer = self.call("Runtime.evaluate", params);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].take()
    }

    /// Presses a key as a person would.
    pub(crate) fn press(&mut self, key: &str, code: u32) {
        let text = if key.chars().count() == 1 { key } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let params =
                json!({"type": kind, "key": key, "text": text, "windowsVirtualKeyCode": code});
            self.call("Input.dispatchKeyEvent", params);
        }
    }

    /// A window of so many pixels; a narrow one is a phone's.
    pub(crate) fn resize(&mut self, width: u32, height: u32) {
        let mobile = width < 600;
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile});
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    /// `dark` or `light`.
    pub(crate) fn colours(&mut self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.call("Emulation.setEmulatedMedia", json!({"features": features}));
    }

    /// Puts a picture of the window into `DETGATE_SCREENSHOTS`, if that names a folder, for a person to look at.
    pub(crate) fn picture(&mut self, name: &str) {
        let Some(folder) = std::env::var_os("DETGATE_SCREENSHOTS").filter(|f| !f.is_empty()) else {
            return;
        };
        let answer = self.call("Page.captureScreenshot", json!({"format": "png"}));
        let bytes = decoded(answer["data"].as_str().unwrap());
        std::fs::write(PathBuf::from(folder).join(format!("{name}.png")), bytes).unwrap();
    }

    /// Everything that the page complained of so far.
    pub(crate) fn complaints(&mut self) -> Vec<String> {
        // Whatever was sent before this answer has been read.
        self.eval("0");
        self.complaints.clone()
    }
}

/// Base64 (RFC 4648).
fn decoded(text: &str) -> Vec<u8> {
    let value = |sign: u8| match sign {
        b'A'..=b'Z' => sign - b'A',
        b'a'..=b'z' => sign - b'a' + 26,
        b'0'..=b'9' => sign - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let signs: Vec<u8> = text.bytes().filter(|&sign| sign != b'=').map(value).collect();
    let bytes = |signs: &[u8]| {
        let bits = signs.iter().fold(0_u32, |bits, &sign| bits << 6 | u32::from(sign));
        let whole = bits << (6 * (4 - signs.len()));
        whole.to_be_bytes()[1..signs.len()].to_vec()
    };
    signs.chunks(4).flat_map(bytes).collect()
}

impl Drop for Tab {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
