//! Secrets and configs.
//!
//! Start reading at [`secret`] and [`shown_secret`]; configs have a pair of their own.

use shoal_types::cluster::secret::{
    Config as StoredConfig, ConfigSpec as WantedConfig, Secret as StoredSecret, SecretSpec as WantedSecret,
};

use super::cluster::version;
use crate::error::ApiError;
use crate::model::bytes::Base64;
use crate::model::cluster::Driver;
use crate::model::secret::{Config, ConfigSpec, Secret, SecretSpec};

/// The only thing that fills templates in: Go's own templates.
const TEMPLATES: &str = "golang";

/// The secret that a request describes. One that a driver would keep is refused before a task could wait for it.
pub(crate) fn secret(asked: SecretSpec) -> Result<WantedSecret, ApiError> {
    if let Some(driver) = asked.driver {
        let name = driver.name;
        return Err(ApiError::not_implemented(format!(
            "secrets that the driver {name} keeps are not supported"
        )));
    }
    Ok(WantedSecret {
        name: asked.name,
        labels: asked.labels,
        data: asked.data.0,
        templated: is_template(asked.templating.as_ref())?,
    })
}

/// A secret as Docker shows it: without its content.
pub(crate) fn shown_secret(secret: &StoredSecret) -> Secret {
    Secret {
        id: secret.id.to_string(),
        version: version(&secret.meta),
        created_at: secret.meta.created.into(),
        updated_at: secret.meta.updated.into(),
        spec: SecretSpec {
            name: secret.spec.name.clone(),
            labels: secret.spec.labels.clone(),
            data: Base64::default(),
            driver: None,
            templating: templating(secret.spec.templated),
        },
    }
}

/// The config that a request describes.
pub(crate) fn config(asked: ConfigSpec) -> Result<WantedConfig, ApiError> {
    Ok(WantedConfig {
        name: asked.name,
        labels: asked.labels,
        data: asked.data.0,
        templated: is_template(asked.templating.as_ref())?,
    })
}

/// A config as Docker shows it.
pub(crate) fn shown_config(config: &StoredConfig) -> Config {
    Config {
        id: config.id.to_string(),
        version: version(&config.meta),
        created_at: config.meta.created.into(),
        updated_at: config.meta.updated.into(),
        spec: ConfigSpec {
            name: config.spec.name.clone(),
            labels: config.spec.labels.clone(),
            data: Base64(config.spec.data.clone()),
            templating: templating(config.spec.templated),
        },
    }
}

/// Whether content is a template. Swarm takes any driver here and fails when a task starts; this engine says so at once.
fn is_template(driver: Option<&Driver>) -> Result<bool, ApiError> {
    match driver.map(|driver| driver.name.as_str()) {
        None | Some("") => Ok(false),
        Some(TEMPLATES) => Ok(true),
        Some(other) => Err(ApiError::invalid(format!("unrecognized template type {other}"))),
    }
}

fn templating(templated: bool) -> Option<Driver> {
    templated.then(|| Driver { name: TEMPLATES.to_owned(), ..Driver::default() })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use shoal_types::cluster::Meta;
    use shoal_types::{ConfigId, SecretId};

    use super::*;

    fn meta() -> Meta {
        let at = "2026-11-21T08:44:01Z".parse().unwrap();
        Meta { version: 3, created: at, updated: at }
    }

    fn asked() -> Value {
        json!({"Name": "n", "Labels": {"a": "b"}, "Data": "eA==", "Templating": {"Name": "golang"}})
    }

    #[test]
    fn configs_go_both_ways_with_their_content() {
        let spec = config(crate::json::decode_value(&asked()).unwrap()).unwrap();
        let stored = StoredConfig { id: ConfigId::from_u128(1), meta: meta(), spec };
        assert_eq!(serde_json::to_value(shown_config(&stored)).unwrap()["Spec"], asked());
    }

    #[test]
    fn secrets_go_both_ways_without_their_content() {
        let mut asked = asked();
        let spec = secret(crate::json::decode_value(&asked).unwrap()).unwrap();
        assert_eq!(spec.data, b"x");
        let stored = StoredSecret { id: SecretId::from_u128(1), meta: meta(), spec };
        let shown = serde_json::to_value(shown_secret(&stored)).unwrap();
        asked.as_object_mut().unwrap().remove("Data");
        assert_eq!(shown["Spec"], asked);
    }

    #[test]
    fn secrets_of_a_driver_are_refused() {
        let mut asked = asked();
        asked["Driver"] = json!({"Name": "vault", "Options": {"o": "p"}});
        let refused = secret(crate::json::decode_value(&asked).unwrap()).unwrap_err();
        assert_eq!(refused.message(), "secrets that the driver vault keeps are not supported");
        assert_eq!(refused.status(), 501);
    }

    #[test]
    fn templates_of_another_kind_are_refused() {
        let spec = SecretSpec {
            templating: Some(Driver { name: "jinja".into(), ..Driver::default() }),
            ..SecretSpec::default()
        };
        assert_eq!(secret(spec).unwrap_err().message(), "unrecognized template type jinja");
    }
}
