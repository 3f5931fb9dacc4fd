//! The way to a server, for the length of one piece of work.

use super::client::Client;
use super::server::Server;
use super::{RegistryError, RegistrySettings, TrackingUri};

/// Asks the running server, or starts one of ours for the SQLite file; `goal` completes the sentence
/// that it ended before it.
pub(super) fn with_client<T>(
    settings: &RegistrySettings,
    goal: &str,
    work: impl FnOnce(&Client, Option<&Server>) -> Result<T, RegistryError>,
) -> Result<T, RegistryError> {
    match &settings.tracking_uri {
        TrackingUri::Http { base, credentials } => {
            let credentials = settings.credentials.clone().or_else(|| credentials.clone());
            work(&Client::running(base, credentials, settings)?, None)
        }
        TrackingUri::Sqlite { database } => {
            let mut server = Server::start(database, settings)?;
            let client = server.client(settings)?;
            match work(&client, Some(&server)) {
                // "Connection refused" is no help where the server is ours: its log is.
                Err(RegistryError::Unreachable { .. }) if server.has_ended(&client) => {
                    Err(server.error(&format!("ended before {goal}")))
                }
                other => other,
            }
        }
    }
}
