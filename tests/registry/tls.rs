//! A server behind TLS with an authority of its own, as inside a company.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use detgate::registry::{Credentials, RegistryError, RegistrySettings, Tls, publish};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::mlflow::mlflow_python;
use crate::proxy::{finish_request, read_request};
use crate::support::{passed, publication, running_server, settings};

/// An authority, and PEM files of what it signed.
struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        std::fs::write(folder.path().join("ca.pem"), pem).unwrap();
        Self { folder, issuer: Issuer::new(params, key) }
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A file with a certificate for `name` and its key.
    fn signed(&self, name: &str) -> PathBuf {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let path = self.folder.path().join(format!("{name}.pem"));
        std::fs::write(&path, certificate.pem() + &key.serialize_pem()).unwrap();
        path
    }
}

/// Ends TLS before a plain server; asks for certificates of `clients` where they are given.
fn tls_proxy(server: &str, certificate: &Path, clients: Option<&Path>) -> String {
    let certificates = |path: &Path| -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_file_iter(path).unwrap().map(Result::unwrap).collect()
    };
    let builder = ServerConfig::builder();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates(path));
            builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap(),
            )
        }
    };
    let key = PrivateKeyDer::from_pem_file(certificate).unwrap();
    let config = Arc::new(builder.with_single_cert(certificates(certificate), key).unwrap());
    let target = server.trim_start_matches("http://").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (config, target) = (Arc::clone(&config), target.clone());
            // A client that does not trust us breaks the connection, which is what is tested.
            std::thread::spawn(move || drop(relay(client, config, &target)));
        }
    });
    format!("https://localhost:{port}")
}

fn relay(client: TcpStream, config: Arc<ServerConfig>, target: &str) -> std::io::Result<()> {
    let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut client = StreamOwned::new(connection, client);
    let (head, body) = read_request(&mut client)?;
    let mut server = TcpStream::connect(target)?;
    server.write_all(finish_request(&head).as_bytes())?;
    server.write_all(&body)?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    client.write_all(&answer)?;
    client.conn.send_close_notify();
    client.flush()
}

fn publish_with(address: &str, name: &str, tls: Tls) -> Result<String, RegistryError> {
    let folder = tempfile::tempdir().unwrap();
    let settings = RegistrySettings {
        tls,
        credentials: Some(Credentials::Token("s3cr3t".into())),
        ..settings(address, folder.path(), "python3".as_ref())
    };
    let publication = publication(folder.path(), name, name);
    publish(&passed(), &publication, &settings).map(|registered| registered.version)
}

#[test]
fn a_server_of_a_private_authority_is_trusted_when_the_authority_is_named() {
    let Some(python) = mlflow_python() else {
        return;
    };
    let server = running_server(&python);
    let authority = Authority::new();
    let address = tls_proxy(&server.address, &authority.signed("localhost"), None);
    let trusting = |path: PathBuf| Tls { server_cert: Some(path), ..Tls::default() };

    let begin = Instant::now();
    let unknown = publish_with(&address, "tls", Tls::default()).unwrap_err().to_string();
    assert!(unknown.contains("MLFLOW_TRACKING_SERVER_CERT_PATH"), "{unknown}");
    assert!(!unknown.contains("s3cr3t"), "{unknown}");
    assert!(
        begin.elapsed() < Duration::from_secs(10),
        "a certificate does not get better by waiting"
    );
    let other = publish_with(&address, "tls", trusting(Authority::new().ca())).unwrap_err();
    assert!(other.to_string().contains("MLFLOW_TRACKING_SERVER_CERT_PATH"), "{other}");

    assert_eq!(publish_with(&address, "tls", trusting(authority.ca())).unwrap(), "1");
    let insecure = Tls { insecure: true, ..Tls::default() };
    assert_eq!(publish_with(&address, "tls insecure", insecure).unwrap(), "1");

    // The name counts, too.
    let elsewhere = tls_proxy(&server.address, &authority.signed("elsewhere.example"), None);
    let error = publish_with(&elsewhere, "tls", trusting(authority.ca())).unwrap_err();
    assert!(error.to_string().contains("not valid for name"), "{error}");
}

#[test]
fn a_server_that_asks_for_a_certificate_gets_the_one_that_is_named() {
    let Some(python) = mlflow_python() else {
        return;
    };
    let server = running_server(&python);
    let authority = Authority::new();
    let address = tls_proxy(&server.address, &authority.signed("localhost"), Some(&authority.ca()));
    let with = |client: Option<PathBuf>| {
        let tls = Tls { server_cert: Some(authority.ca()), client_cert: client, insecure: false };
        publish_with(&address, "mutual tls", tls)
    };
    let none = with(None).unwrap_err().to_string();
    assert!(none.contains("MLFLOW_TRACKING_CLIENT_CERT_PATH"), "{none}");
    let stranger = with(Some(Authority::new().signed("ci"))).unwrap_err().to_string();
    assert!(stranger.contains("MLFLOW_TRACKING_CLIENT_CERT_PATH"), "{stranger}");
    assert_eq!(with(Some(authority.signed("ci"))).unwrap(), "1");
}

#[test]
fn certificates_that_cannot_be_used_are_said_with_their_variable() {
    let authority = Authority::new();
    let missing = Some(PathBuf::from("/nonexistent/ca.pem"));
    let no_key = Some(authority.ca());
    let no_certificate = authority.folder.path().join("text.pem");
    std::fs::write(&no_certificate, "no certificate").unwrap();
    let said =
        |tls: Tls| publish_with("https://localhost:1", "never", tls).unwrap_err().to_string();
    let server = |path: Option<PathBuf>| Tls { server_cert: path, ..Tls::default() };

    assert!(said(server(missing)).contains("/nonexistent/ca.pem"));
    let text = said(server(Some(no_certificate)));
    assert!(
        text.contains("MLFLOW_TRACKING_SERVER_CERT_PATH") && text.contains("text.pem"),
        "{text}"
    );
    let text = said(Tls { client_cert: no_key, ..Tls::default() });
    assert!(
        text.contains("MLFLOW_TRACKING_CLIENT_CERT_PATH") && text.contains("its key"),
        "{text}"
    );
    let text = said(Tls { insecure: true, ..server(Some(authority.ca())) });
    assert!(text.contains("MLFLOW_TRACKING_INSECURE_TLS"), "{text}");
}
