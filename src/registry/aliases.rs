//! Names that move from version to version: `candidate`, `champion`.
//!
//! **What a promotion guarantees.** It never moves an alias off a version that the gate did not compare
//! with: the alias is read again right before it is set, and after that to see whether it stayed.
//! **What it does not.** MLflow has no compare-and-set. Of two promotions that both read the alias within the
//! same moment, before either has set it, the later one stands, and the earlier one says so only if it looks
//! after that. Both passed the gate against the same version.

use serde_json::json;

use super::RegistryError;
use super::api::{self, Named, Version};
use super::client::Client;

/// An alias that is to be moved to the new version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promotion {
    /// The alias, such as `champion`.
    pub alias: String,
    /// The version that the gate compared with; `None` when the alias named none and the gate compared
    /// with something else.
    pub compared_with: Option<String>,
}

/// What became of an alias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasOutcome {
    /// The alias.
    pub alias: String,
    /// Why it does not name the version, a sentence; `None` where it does.
    pub problem: Option<String>,
}

/// Gives a version its aliases. What fails is told and undoes nothing: the version stands.
pub(super) fn assign(
    client: &Client,
    model: &str,
    version: &str,
    aliases: &[String],
    promotion: Option<&Promotion>,
) -> Vec<AliasOutcome> {
    let plain = aliases.iter().map(|alias| (alias, set(client, model, alias, version)));
    let promoted =
        promotion.map(|promotion| (&promotion.alias, promote(client, model, version, promotion)));
    plain
        .chain(promoted)
        .map(|(alias, outcome)| AliasOutcome {
            alias: alias.clone(),
            problem: outcome.unwrap_or_else(|error| Some(error.to_string())),
        })
        .collect()
}

/// Whether an alias that every new version gets names none, or an older one than `version`.
pub(super) fn is_due(
    client: &Client,
    model: &str,
    alias: &str,
    version: &Version,
) -> Result<bool, RegistryError> {
    let present = number(api::version_of_alias(client, model, alias)?);
    let present = present.and_then(|number| number.parse::<u64>().ok());
    Ok(present.is_none_or(|present| present < version.count()))
}

fn promote(
    client: &Client,
    model: &str,
    version: &str,
    promotion: &Promotion,
) -> Result<Option<String>, RegistryError> {
    let Promotion { alias, compared_with } = promotion;
    let present = number(api::version_of_alias(client, model, alias)?);
    // The same again: a registration that was repeated.
    if present.as_deref() == Some(version) {
        return Ok(None);
    }
    if present != *compared_with {
        return Ok(Some(refusal(alias, compared_with.as_deref(), present.as_deref())));
    }
    set(client, model, alias, version)
}

fn refusal(alias: &str, compared_with: Option<&str>, present: Option<&str>) -> String {
    let compared = match compared_with {
        Some(version) => format!("version {version}"),
        None => "a file".to_owned(),
    };
    match present {
        Some(present) => format!(
            "the gate compared with {compared}, but {alias} is version {present} by now; evaluate again with that \
             as the baseline"
        ),
        None => format!(
            "the gate compared with {compared}, but {alias} is taken away by now; see who did that, and evaluate again"
        ),
    }
}

/// Sets an alias and looks whether it stayed.
fn set(
    client: &Client,
    model: &str,
    alias: &str,
    version: &str,
) -> Result<Option<String>, RegistryError> {
    let body = json!({ "name": model, "alias": alias, "version": version });
    client.repeated(|| client.post("registered-models/alias", &body))?;
    let present = number(api::version_of_alias(client, model, alias)?);
    Ok(match present {
        Some(present) if present == version => None,
        Some(present) => {
            Some(format!("somebody gave {alias} to version {present} in the same moment"))
        }
        None => Some(format!("somebody took {alias} away in the same moment")),
    })
}

fn number(named: Option<Named>) -> Option<String> {
    named.map(|named| named.number)
}
