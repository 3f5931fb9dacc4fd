//! A real S3 server, with an MLflow server that keeps its artifacts in it and signs URLs for it.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::proxy::{Fault, Proxy};
use crate::support::{KEEPER, RunningServer, s3_python, start_with};

/// What MLflow's server knows the S3 server by, and nobody else is to see.
pub(crate) const SECRET_KEY: &str = "s3cr3t key of the store";
const ACCESS_KEY: &str = "AKIADETGATETEST";

type Rule = Box<dyn Fn(&str) -> Fault + Send>;

/// Both servers, shared by the tests of this process, which tell their files apart by their names.
pub(crate) struct S3 {
    /// The address of the S3 server itself.
    direct: String,
    pub(crate) mlflow: RunningServer,
    /// Between the S3 server and everybody else.
    proxy: Proxy,
    rules: Arc<Mutex<BTreeMap<String, Rule>>>,
    /// Ends the S3 server with this process.
    _keeper: Child,
}

/// `None` after saying that the test is skipped.
pub(crate) fn s3() -> Option<&'static S3> {
    static SERVERS: OnceLock<S3> = OnceLock::new();
    let python = s3_python()?;
    Some(SERVERS.get_or_init(|| S3::start(&python)))
}

impl S3 {
    fn start(python: &Path) -> Self {
        let (keeper, direct) = moto(python);
        let rules = Arc::<Mutex<BTreeMap<String, Rule>>>::default();
        let known = Arc::clone(&rules);
        let proxy = Proxy::new(&direct, move |line| {
            let known = known.lock().unwrap();
            let rule = known.iter().find(|(file, _)| line.contains(file.as_str()));
            rule.map_or(Fault::None, |(_, rule)| rule(line))
        });
        let variables = [
            ("MLFLOW_S3_ENDPOINT_URL", proxy.address.as_str()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ];
        let options = ["--artifacts-destination", "s3://bucket/x"];
        let mlflow = start_with(python, &options, &variables);
        let answer = reqwest::blocking::Client::new().put(format!("{direct}/bucket")).send();
        assert!(answer.unwrap().status().is_success());
        Self { direct, mlflow, proxy, rules, _keeper: keeper }
    }

    /// What goes wrong between the store and everybody else, for requests whose line names `file`.
    pub(crate) fn rule(&self, file: &str, rule: impl Fn(&str) -> Fault + Send + 'static) {
        self.rules.lock().unwrap().insert(file.to_owned(), Box::new(rule));
    }

    /// The heads of the requests about `file` that the store got.
    pub(crate) fn heads(&self, file: &str) -> Vec<String> {
        self.proxy.heads(|head| head.lines().next().unwrap_or("").contains(file))
    }

    /// An object's bytes and its ETag, by the path below the artifact root of MLflow's server.
    pub(crate) fn object(&self, path: &str) -> (Vec<u8>, String) {
        let url = format!("{}/bucket/x/{path}", self.direct);
        // moto wants a signature, and checks none.
        let request = reqwest::blocking::Client::new().get(url).header("authorization", "AWS a:b");
        let answer = request.send().unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        let etag = answer.headers()["etag"].to_str().unwrap().to_owned();
        (answer.bytes().unwrap().to_vec(), etag)
    }

    /// Whether the store holds parts of `file` that nobody put together or threw away.
    pub(crate) fn has_upload(&self, file: &str) -> bool {
        let answer = reqwest::blocking::get(format!("{}/bucket?uploads", self.direct)).unwrap();
        let list = answer.text().unwrap();
        assert!(list.contains("ListMultipartUploadsResult"), "{list}");
        list.contains(file)
    }
}

/// Starts moto's server with S3 only.
fn moto(python: &Path) -> (Child, String) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let port = port.to_string();
    let mut command = Command::new(python);
    command.args(["-c", KEEPER, "", python.to_str().unwrap(), "-m", "moto.server"]);
    command.args(["--host", "127.0.0.1", "--port", &port]);
    // S3 takes no part but the last under 5 MiB, which is more than tests need.
    command.env("S3_UPLOAD_PART_MIN_SIZE", "1").current_dir(std::env::temp_dir());
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let keeper = command.spawn().unwrap();
    let address = format!("http://127.0.0.1:{port}");
    let deadline = Instant::now() + Duration::from_secs(60);
    while reqwest::blocking::get(&address).is_err() {
        assert!(Instant::now() < deadline, "moto's server does not answer");
        std::thread::sleep(Duration::from_millis(100));
    }
    (keeper, address)
}
