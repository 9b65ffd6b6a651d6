//! Making keys.

use weir_pipeline::tenant::record::NewKey;
use weir_pipeline::tenant::{ApiKey, KeyRecord, Slug};

use super::{Registry, RegistryError};

impl Registry {
    /// Makes a key for an environment of a project. The key is returned this once; what is kept is its record.
    ///
    /// # Errors
    /// If there is no such project or environment, or the registry cannot be changed.
    pub async fn create_key(
        &self,
        project: &Slug,
        environment: &Slug,
        name: &str,
        expires_unix_nano: Option<u64>,
    ) -> Result<(ApiKey, KeyRecord), RegistryError> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|error| RegistryError::Random(error.to_string()))?;
        let key = ApiKey::of_random(&bytes);
        let description = NewKey { name, now: self.clock.now_unix_nanos(), expires_unix_nano };
        let organization = self.organization().await?;
        let record = self
            .change_project(project, |document| {
                Ok(document.add_key(&organization, environment, &key, description)?.clone())
            })
            .await?;
        Ok((key, record))
    }

    /// Refuses a key from now on.
    ///
    /// # Errors
    /// If there is no such project or key, or the registry cannot be changed.
    pub async fn revoke_key(&self, project: &Slug, id: &str) -> Result<KeyRecord, RegistryError> {
        let now = self.clock.now_unix_nanos();
        self.change_project(project, |document| Ok(document.revoke_key(id, now)?.clone())).await
    }
}
