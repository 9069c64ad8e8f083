//! The web config in force, and its reloading.
//!
//! The file and what it names are read again for every connection and every request, as Prometheus's exporters do. What is as
//! before costs no more than the reading. What is worse than before is refused: it is logged once, shown by metrics, and the
//! config before stays in force.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Mutex;

use super::web_config::{Material, WebConfig, WebConfigError};
use crate::config::LoadState;

/// Keeps the web config in force.
#[derive(Debug)]
pub(super) struct Keeper {
    /// None where there is no file, and nothing to read again.
    file: Option<Mutex<Kept>>,
    /// What is in force where there is no file.
    default: Arc<WebConfig>,
    state: Arc<LoadState>,
}

struct Kept {
    path: PathBuf,
    config: Arc<WebConfig>,
    /// What `config` was made from.
    material: Arc<Material>,
    /// Why the file is not in force as it is now; none where it is.
    refused: Option<String>,
}

impl std::fmt::Debug for Kept {
    // The material holds secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept")
            .field("path", &self.path)
            .field("refused", &self.refused)
            .finish_non_exhaustive()
    }
}

impl Keeper {
    /// Reads the web config file where there is one. `state` is told what comes of it, and of reading it again.
    pub(super) fn new(path: Option<&Path>, state: Arc<LoadState>) -> Result<Self, WebConfigError> {
        let kept = |path: &Path| {
            let material = Material::read(path)?;
            Ok(Mutex::new(Kept {
                path: path.to_owned(),
                config: Arc::new(material.check()?),
                material: Arc::new(material),
                refused: None,
            }))
        };
        let file = path.map(kept).transpose()?;
        state.loaded();
        Ok(Self {
            file,
            default: Arc::default(),
            state,
        })
    }

    /// The config to answer by, after a look at the file.
    pub(super) async fn current(&self) -> Arc<WebConfig> {
        let Some(file) = &self.file else {
            return Arc::clone(&self.default);
        };
        let mut kept = file.lock().await;
        let (path, before) = (kept.path.clone(), Arc::clone(&kept.material));
        let had_tls = kept.config.tls.is_some();
        let read = tokio::task::spawn_blocking(move || read_again(&path, &before, had_tls)).await;
        match read {
            Ok(Ok(None)) => {
                if kept.refused.take().is_some() {
                    tracing::info!("the web config file is again as it was when last loaded");
                    self.state.loaded();
                }
            }
            Ok(Ok(Some((material, config)))) => {
                kept.config = Arc::new(config);
                kept.material = Arc::new(material);
                kept.refused = None;
                self.state.loaded();
                tracing::info!(file = %kept.path.display(), "the web config file was loaded again");
            }
            Ok(Err(error)) => {
                let text = error.told();
                if kept.refused.as_ref() != Some(&text) {
                    tracing::error!(
                        error = text,
                        "the web config file is refused; the one before stays in force"
                    );
                    kept.refused = Some(text);
                    self.state.refused();
                }
            }
            // Only where the runtime is ending.
            Err(_) => {}
        }
        Arc::clone(&kept.config)
    }
}

/// The config as the file has it now; none where that is what it was made from before.
fn read_again(
    path: &Path,
    before: &Material,
    had_tls: bool,
) -> Result<Option<(Material, WebConfig)>, WebConfigError> {
    let material = Material::read(path)?;
    if material == *before {
        return Ok(None);
    }
    let config = material.check()?;
    if config.tls.is_some() != had_tls {
        return Err(WebConfigError::TlsSwitched {
            path: path.to_owned(),
        });
    }
    Ok(Some((material, config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_is_taken_and_a_fault_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.yml");
        let state = Arc::new(LoadState::default());
        std::fs::write(&path, "").unwrap();
        let keeper = Keeper::new(Some(&path), Arc::clone(&state)).unwrap();
        assert!(keeper.current().await.users.is_empty());
        let hash = bcrypt::hash("x", 4).unwrap();
        std::fs::write(&path, format!("basic_auth_users:\n  alice: {hash}\n")).unwrap();
        assert!(!keeper.current().await.users.is_empty());
        assert!(state.last_reload_succeeded());
        let last = state.last_success();
        for bad in ["basic_auth_users: {a: b}\n", "x"] {
            std::fs::write(&path, bad).unwrap();
            assert!(!keeper.current().await.users.is_empty());
            assert!(!state.last_reload_succeeded());
        }
        std::fs::remove_file(&path).unwrap();
        assert!(!keeper.current().await.users.is_empty());
        assert_eq!(state.last_success(), last);
        std::fs::write(&path, format!("basic_auth_users:\n  alice: {hash}\n")).unwrap();
        assert!(!keeper.current().await.users.is_empty());
        assert!(state.last_reload_succeeded());
        std::fs::write(&path, "").unwrap();
        assert!(keeper.current().await.users.is_empty());
    }

    #[test]
    fn a_fault_at_the_start_is_an_error() {
        let state = Arc::new(LoadState::default());
        let error = Keeper::new(Some(Path::new("/nowhere/web.yml")), state).unwrap_err();
        assert!(error.to_string().contains("/nowhere/web.yml"), "{error}");
    }
}
