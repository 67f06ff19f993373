//! Secrets and configs: small files that do not change once they are made.
//!
//! Start reading at the implementation of [`Secrets`]; [`Configs`] is the same with other limits and words.

use async_trait::async_trait;
use shoal_types::cluster::Meta;
use shoal_types::cluster::secret::{
    Config, ConfigSpec, MAX_CONFIG_SIZE, MAX_SECRET_SIZE, Secret, SecretSpec,
};
use shoal_types::cluster::service::TaskTemplate;
use shoal_types::{ConfigId, SecretId};

use super::Control;
use super::lookup::matches;
use super::refusal::{Code, out_of_sequence};
use super::validate::file_name;
use crate::api::ObjectFilter;
use crate::api::secrets::{Configs, Secrets};
use crate::error::ClusterError;
use crate::store::{Key, ObjectKind, Snapshot};

/// Why anything but labels cannot be changed.
const ONLY_LABELS: &str = "only updates to Labels are allowed";

#[async_trait]
impl Secrets for Control {
    async fn create(&self, spec: SecretSpec) -> Result<SecretId, ClusterError> {
        file_name(&spec.name)?;
        if spec.data.is_empty() || spec.data.len() >= MAX_SECRET_SIZE {
            return Err(Code::InvalidArgument.refuse(format_args!(
                "secret data must be larger than 0 and less than {MAX_SECRET_SIZE} bytes"
            )));
        }
        let mut draft = self.draft();
        if draft.view().by_name(ObjectKind::Secret, &spec.name).is_some() {
            return Err(Code::AlreadyExists.refuse(format_args!("secret {} already exists", spec.name)));
        }
        let id = SecretId::random();
        draft.create(Secret { id, meta: new_meta(&draft), spec })?;
        self.commit(draft).await?;
        Ok(id)
    }

    async fn list(&self, filter: ObjectFilter) -> Result<Vec<Secret>, ClusterError> {
        let view = self.view();
        Ok(view
            .secrets()
            .filter(|secret| matches(&filter, &secret.id, &secret.spec.name, &secret.spec.labels))
            .map(|secret| without_content(secret))
            .collect())
    }

    async fn inspect(&self, name: &str) -> Result<Secret, ClusterError> {
        let view = self.view();
        self.find_secret(&view, name).map(|secret| without_content(&secret))
    }

    async fn update(&self, name: &str, version: u64, spec: SecretSpec) -> Result<(), ClusterError> {
        let mut draft = self.draft();
        let mut secret = Secret::clone(&*self.find_secret(draft.view(), name)?);
        // A client sends what it was shown, and the content is never shown.
        let changes_content = !spec.data.is_empty() && spec.data != secret.spec.data;
        let is_same = spec.name == secret.spec.name && spec.templated == secret.spec.templated;
        if changes_content || !is_same {
            return Err(Code::InvalidArgument.refuse(ONLY_LABELS));
        }
        if version != secret.meta.version {
            return Err(out_of_sequence());
        }
        secret.spec.labels = spec.labels;
        draft.update(secret)?;
        self.commit(draft).await
    }

    async fn remove(&self, name: &str) -> Result<(), ClusterError> {
        let mut draft = self.draft();
        let secret = self.find_secret(draft.view(), name)?;
        let uses = |template: &TaskTemplate| {
            template.container.secrets.iter().any(|reference| reference.id == secret.id)
        };
        refuse_if_used(draft.view(), ("secret", &secret.spec.name), uses)?;
        draft.remove(Key::Secret(secret.id))?;
        self.commit(draft).await
    }
}

#[async_trait]
impl Configs for Control {
    async fn create(&self, spec: ConfigSpec) -> Result<ConfigId, ClusterError> {
        file_name(&spec.name)?;
        if spec.data.is_empty() || spec.data.len() >= MAX_CONFIG_SIZE {
            return Err(Code::InvalidArgument.refuse(format_args!(
                "config data must be larger than 0 and less than {MAX_CONFIG_SIZE} bytes"
            )));
        }
        let mut draft = self.draft();
        if draft.view().by_name(ObjectKind::Config, &spec.name).is_some() {
            return Err(Code::AlreadyExists.refuse(format_args!("config {} already exists", spec.name)));
        }
        let id = ConfigId::random();
        draft.create(Config { id, meta: new_meta(&draft), spec })?;
        self.commit(draft).await?;
        Ok(id)
    }

    async fn list(&self, filter: ObjectFilter) -> Result<Vec<Config>, ClusterError> {
        let view = self.view();
        Ok(view
            .configs()
            .filter(|config| matches(&filter, &config.id, &config.spec.name, &config.spec.labels))
            .map(|config| Config::clone(config))
            .collect())
    }

    async fn inspect(&self, name: &str) -> Result<Config, ClusterError> {
        let view = self.view();
        self.find_config(&view, name).map(|config| Config::clone(&config))
    }

    async fn update(&self, name: &str, version: u64, spec: ConfigSpec) -> Result<(), ClusterError> {
        let mut draft = self.draft();
        let mut config = Config::clone(&*self.find_config(draft.view(), name)?);
        let changes_content = !spec.data.is_empty() && spec.data != config.spec.data;
        let is_same = spec.name == config.spec.name && spec.templated == config.spec.templated;
        if changes_content || !is_same {
            return Err(Code::InvalidArgument.refuse(ONLY_LABELS));
        }
        if version != config.meta.version {
            return Err(out_of_sequence());
        }
        config.spec.labels = spec.labels;
        draft.update(config)?;
        self.commit(draft).await
    }

    async fn remove(&self, name: &str) -> Result<(), ClusterError> {
        let mut draft = self.draft();
        let config = self.find_config(draft.view(), name)?;
        let uses = |template: &TaskTemplate| {
            template.container.configs.iter().any(|reference| reference.id == config.id)
        };
        refuse_if_used(draft.view(), ("config", &config.spec.name), uses)?;
        draft.remove(Key::Config(config.id))?;
        self.commit(draft).await
    }
}

/// Times of an object that is being made; the version comes with its commit.
pub(super) fn new_meta(draft: &crate::store::Draft) -> Meta {
    Meta { version: 0, created: draft.now(), updated: draft.now() }
}

fn without_content(secret: &Secret) -> Secret {
    let mut secret = secret.clone();
    secret.spec.data = Vec::new();
    secret
}

/// Refuses the removal of a file that services use, naming them.
fn refuse_if_used(
    view: &Snapshot,
    (kind, name): (&str, &str),
    uses: impl Fn(&TaskTemplate) -> bool,
) -> Result<(), ClusterError> {
    let users: Vec<&str> = view
        .services()
        .filter(|service| uses(&service.spec.template))
        .map(|service| service.spec.name.as_str())
        .collect();
    if users.is_empty() {
        return Ok(());
    }
    let noun = if users.len() == 1 { "service" } else { "services" };
    Err(Code::InvalidArgument
        .refuse(format_args!("{kind} '{name}' is in use by the following {noun}: {}", users.join(", "))))
}
