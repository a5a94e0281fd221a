//! Where a file is, and the thread that calls about it wait on.

use std::path::{Path, PathBuf};

use crate::errno::Reason;
use crate::http::ApiError;
use crate::identity::Identity;
use crate::paths;
use crate::users::User;

/// Runs what blocks on another thread.
pub async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(ApiError::internal)?
}

/// The file that a client's path means.
pub fn target(identity: &Identity, user: &User, path: &str) -> Result<PathBuf, ApiError> {
    let base = identity.default_workdir();
    let base = base.as_deref().map_or(user.home.as_path(), Path::new);
    paths::resolve(path, &user.home, base)
        .map_err(|error| ApiError::because(Reason::Invalid, error))
}
