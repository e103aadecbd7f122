//! Drives a Chromium over two pipes: the DevTools protocol as JSON, each message ended by a NUL.
//! No port is opened. The browser ends when its pipes do, whatever happened to the test.

use serde_json::{Value, json};
use std::{
    collections::HashMap,
    env, fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::MetadataExt,
    path::PathBuf,
    process::{ChildStdin, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

/// Set where Chromium must be there: its absence fails the tests instead of being said.
const NEED: &str = "BUTTERFLY_NEED_CHROMIUM";
/// Longest wait for an answer. Only what hangs reaches it.
const PATIENCE: Duration = Duration::from_secs(120);
/// A window server, updates and a graphics card are of no use here.
const FLAGS: [&str; 11] = [
    "--headless",
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--no-first-run",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
];

/// A running browser.
#[derive(Debug)]
pub(crate) struct Chromium {
    to: Mutex<ChildStdin>,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, Sender<Value>>>,
    /// Events of each session, as long as its tab lives.
    events: Mutex<HashMap<String, Vec<Value>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The program, or None with a line that says what is left out.
fn program() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|program| program.is_file());
    if found.is_none() {
        let said = "no Chromium on this host: the page was not opened (apt-get install chromium)";
        assert!(env::var_os(NEED).is_none(), "{said}");
        println!("{said}");
    }
    found
}

impl Chromium {
    /// Starts one, or says why not.
    pub(crate) fn start() -> Option<Arc<Self>> {
        let program = program()?;
        let profile = env::temp_dir().join(format!("butterfly-page-{}", std::process::id()));
        fs::create_dir_all(&profile).expect("a folder for the profile");
        // The shell gives its own standard pipes the numbers that Chromium expects, and takes the
        // profile away when the browser has ended.
        let script = "profile=$1; shift; \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1; \
                      rm -rf \"$profile\"";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(&profile).arg(program);
        command.args(FLAGS).arg(format!("--user-data-dir={}", profile.display()));
        // Chromium refuses its own sandbox to the superuser.
        if fs::metadata("/proc/self").is_ok_and(|of| of.uid() == 0) {
            command.arg("--no-sandbox");
        }
        let mut child = command
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let to = child.stdin.take().expect("a pipe");
        let from = child.stdout.take().expect("a pipe");
        let browser = Arc::new(Self {
            to: Mutex::new(to),
            next: AtomicU64::new(1),
            waiting: Mutex::default(),
            events: Mutex::default(),
        });
        let reading = Arc::clone(&browser);
        thread::spawn(move || {
            let mut from = BufReader::new(from);
            let mut message = Vec::new();
            while from.read_until(0, &mut message).is_ok_and(|bytes| bytes > 0) {
                message.pop();
                reading.heard(serde_json::from_slice(&message).expect("JSON from Chromium"));
                message.clear();
            }
            // Whoever waits now waits for nothing.
            lock(&reading.waiting).clear();
            let _ = child.wait();
        });
        Some(browser)
    }

    fn heard(&self, message: Value) {
        if let Some(id) = message["id"].as_u64() {
            if let Some(waiting) = lock(&self.waiting).remove(&id) {
                let _ = waiting.send(message);
            }
        } else if let Some(session) = message["sessionId"].as_str()
            && let Some(events) = lock(&self.events).get_mut(session)
        {
            events.push(message);
        }
    }

    fn send(&self, session: Option<&str>, method: &str, params: &Value) -> Receiver<Value> {
        let id = self.next.fetch_add(1, Relaxed);
        let (answer, answered) = channel();
        lock(&self.waiting).insert(id, answer);
        let mut message = json!({"id": id, "method": method, "params": params});
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        lock(&self.to).write_all(&bytes).expect("Chromium takes commands");
        answered
    }

    fn ask(&self, session: Option<&str>, method: &str, params: &Value) -> Value {
        let answer = self.send(session, method, params).recv_timeout(PATIENCE);
        let answer = answer.unwrap_or_else(|what| panic!("{method}: no answer ({what})"));
        assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
        answer["result"].clone()
    }

    /// A tab in a profile of its own, at this address.
    pub(crate) fn open(self: &Arc<Self>, address: &str) -> Tab {
        self.open_as(address, &Look::default())
    }

    /// The same, seen as `look` says.
    pub(crate) fn open_as(self: &Arc<Self>, address: &str, look: &Look) -> Tab {
        let context = self.ask(None, "Target.createBrowserContext", &json!({}));
        let context = context["browserContextId"].as_str().expect("an id").to_owned();
        let target = json!({"url": "about:blank", "browserContextId": context, "newWindow": true});
        let target = self.ask(None, "Target.createTarget", &target);
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = self.ask(None, "Target.attachToTarget", &attach);
        let session = session["sessionId"].as_str().expect("an id").to_owned();
        lock(&self.events).insert(session.clone(), Vec::new());
        let tab = Tab { browser: Arc::clone(self), context, session };
        for domain in ["Page", "Runtime", "Log"] {
            tab.ask(&format!("{domain}.enable"), &json!({}));
        }
        tab.ask("Emulation.setFocusEmulationEnabled", &json!({"enabled": true}));
        tab.look(look);
        tab.go(address);
        tab
    }
}

/// How a page is seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) dark: bool,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

impl Default for Look {
    fn default() -> Self {
        Self { dark: false, width: 1280, height: 900 }
    }
}

/// One tab. Closed when it is dropped.
#[derive(Debug)]
pub(crate) struct Tab {
    browser: Arc<Chromium>,
    context: String,
    session: String,
}

impl Drop for Tab {
    fn drop(&mut self) {
        let context = json!({"browserContextId": self.context});
        self.browser.send(None, "Target.disposeBrowserContext", &context);
        lock(&self.browser.events).remove(&self.session);
    }
}

impl Tab {
    /// A command of the DevTools protocol.
    pub(crate) fn ask(&self, method: &str, params: &Value) -> Value {
        self.browser.ask(Some(&self.session), method, params)
    }

    /// Size and preference of theme; motion is off, so that nothing is seen on its way.
    pub(crate) fn look(&self, look: &Look) {
        let Look { dark, width, height } = *look;
        let scheme = if dark { "dark" } else { "light" };
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.ask("Emulation.setDeviceMetricsOverride", &size);
        let features = json!({"features": [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]});
        self.ask("Emulation.setEmulatedMedia", &features);
    }

    /// Goes to this address and waits until the document is there.
    pub(crate) fn go(&self, address: &str) {
        let gone = self.ask("Page.navigate", &json!({"url": address}));
        assert!(gone["errorText"].is_null(), "{address}: {}", gone["errorText"]);
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'");
    }

    /// The value of an expression, promises awaited.
    pub(crate) fn eval(&self, expression: &str) -> Value {
        let params = json!({
            "expression": expression, "returnByValue": true, "awaitPromise": true,
            "userGesture": true,
        });
        let result = self.ask("Runtime.evaluate", &params);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// The text that an expression gives.
    pub(crate) fn text(&self, expression: &str) -> String {
        self.eval(expression).as_str().unwrap_or_else(|| panic!("{expression}: no text")).to_owned()
    }

    /// Text of the first node that this selects.
    pub(crate) fn text_of(&self, selector: &str) -> String {
        self.text(&format!("document.querySelector({selector:?}).textContent"))
    }

    /// Waits until an expression holds.
    pub(crate) fn until(&self, expression: &str) {
        let step = Duration::from_millis(20);
        for _ in 0..PATIENCE.as_millis() / step.as_millis() {
            if self.eval(&format!("Boolean({expression})")) == true {
                return;
            }
            thread::sleep(step);
        }
        panic!("never came: {expression}");
    }

    /// Presses a key where the focus is. `key` is its DOM name.
    pub(crate) fn press(&self, key: &str) {
        // What a key does of itself (Escape closes, Enter opens) goes by its old number.
        let (number, text) = match key {
            "Enter" => (13, "\r"),
            "Escape" => (27, ""),
            "End" => (35, ""),
            "ArrowLeft" => (37, ""),
            "ArrowRight" => (39, ""),
            "ArrowDown" => (40, ""),
            other => (0, other),
        };
        let mut event = json!({"key": key, "text": text, "windowsVirtualKeyCode": number});
        for kind in ["keyDown", "keyUp"] {
            event["type"] = kind.into();
            self.ask("Input.dispatchKeyEvent", &event);
        }
    }

    /// Moves the pointer to the middle of what this selects.
    pub(crate) fn point_at(&self, selector: &str) {
        let at = self.eval(&format!(
            "(async () => {{ const node = document.querySelector({selector:?}); \
             node.scrollIntoView({{block: 'center'}}); \
             await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done))); \
             const at = node.getBoundingClientRect(); \
             return {{x: at.x + at.width / 2, y: at.y + at.height / 2}}; }})()"
        ));
        let moved = json!({"type": "mouseMoved", "x": at["x"], "y": at["y"]});
        self.ask("Input.dispatchMouseEvent", &moved);
    }

    /// What the browser complained of so far: exceptions, errors and warnings on the console,
    /// violations of the policy.
    pub(crate) fn complaints(&self) -> Vec<String> {
        // All events that were sent before the answer to this have come before it.
        self.eval("0");
        let events = lock(&self.browser.events);
        let complaint = |event: &&Value| match event["method"].as_str().unwrap_or_default() {
            "Runtime.exceptionThrown" => true,
            "Runtime.consoleAPICalled" => {
                matches!(event["params"]["type"].as_str(), Some("error" | "warning" | "assert"))
            }
            "Log.entryAdded" => {
                matches!(event["params"]["entry"]["level"].as_str(), Some("error" | "warning"))
            }
            _ => false,
        };
        events[&self.session].iter().filter(complaint).map(|event| event.to_string()).collect()
    }
}
