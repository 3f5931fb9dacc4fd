//! Certificates of `https://` servers: which authorities are trusted, and our own.
//!
//! The system's authorities are trusted unless others are named. Deliberately absent: keys with a
//! passphrase, and folders of authorities (OpenSSL's `c_rehash`), which MLflow's variable may name too.

use std::error::Error;
use std::path::Path;

use reqwest::blocking::ClientBuilder;
use reqwest::{Certificate, Identity};
use rustls::{AlertDescription, Error as TlsError};

use super::{RegistryError, Tls};

const SERVER_CERT: &str = "MLFLOW_TRACKING_SERVER_CERT_PATH";
const CLIENT_CERT: &str = "MLFLOW_TRACKING_CLIENT_CERT_PATH";

/// The client with the certificates of the settings.
///
/// # Errors
/// [`RegistryError::Tls`] for files that hold something else, and for two settings that contradict each
/// other; [`RegistryError::Io`] for files that cannot be read.
pub(super) fn configured(
    mut builder: ClientBuilder,
    tls: &Tls,
) -> Result<ClientBuilder, RegistryError> {
    if tls.insecure && tls.server_cert.is_some() {
        let reason =
            "MLFLOW_TRACKING_INSECURE_TLS is set too, which trusts everybody; unset one of them";
        return Err(refused(SERVER_CERT, reason.to_owned()));
    }
    if let Some(path) = &tls.server_cert {
        let pem = read(path)?;
        let authorities = Certificate::from_pem_bundle(&pem).unwrap_or_default();
        if authorities.is_empty() {
            let reason =
                format!("{} holds no certificate in PEM; name a file that does", path.display());
            return Err(refused(SERVER_CERT, reason));
        }
        builder = builder.tls_certs_only(authorities);
    }
    if let Some(path) = &tls.client_cert {
        let identity = Identity::from_pem(&read(path)?).map_err(|_| {
            let reason = format!(
                "{} does not hold a certificate and its key, without passphrase, in PEM; put both into that file",
                path.display()
            );
            refused(CLIENT_CERT, reason)
        })?;
        builder = builder.identity(identity);
    }
    Ok(builder.tls_danger_accept_invalid_certs(tls.insecure))
}

fn refused(variable: &'static str, reason: String) -> RegistryError {
    RegistryError::Tls { variable, reason }
}

fn read(path: &Path) -> Result<Vec<u8>, RegistryError> {
    std::fs::read(path).map_err(|error| RegistryError::Io {
        action: "read",
        path: path.to_owned(),
        error,
    })
}

/// What to do where two sides do not trust each other, which no repetition changes.
pub(super) fn distrust(error: &reqwest::Error) -> Option<&'static str> {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(tls) = error.downcast_ref::<TlsError>() {
            return advice(tls);
        }
        // An I/O error's source is that of the error in it, not that error itself.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = inner.map(|inner| inner as _).or_else(|| error.source());
    }
    None
}

fn advice(error: &TlsError) -> Option<&'static str> {
    match error {
        TlsError::InvalidCertificate(_) => Some(
            "name the authority that signed the server's certificate in MLFLOW_TRACKING_SERVER_CERT_PATH (a PEM file)",
        ),
        TlsError::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::DecryptError
            | AlertDescription::AccessDenied,
        ) => Some(
            "the server wants a certificate that it trusts: name a PEM file with yours and its key in \
             MLFLOW_TRACKING_CLIENT_CERT_PATH",
        ),
        _ => None,
    }
}
