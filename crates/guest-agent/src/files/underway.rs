//! The files of one request that are not in place yet.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;

use super::staged::Staged;
use super::target::aside;
use crate::http::ApiError;

/// Whatever is left of them is removed on a thread that may block: a large file takes its time, and there is one thread
/// for all of the protocol.
#[derive(Default)]
pub struct Underway(Arc<Mutex<Files>>);

/// The latest first, so that after a failure a directory goes before the one that it is in.
pub type Files = VecDeque<Staged>;

impl Underway {
    /// Runs what blocks on another thread. It ends before the files go, also when nobody waits for it any more.
    pub async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Files) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let files = Arc::clone(&self.0);
        aside(move || work(&mut lock(&files))).await
    }

    /// The same with the latest file.
    pub async fn latest<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Staged) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        aside(self.on_latest(work)).await
    }

    /// The same work, for a thread that may block and that the caller finds.
    pub fn on_latest<T>(
        &self,
        work: impl FnOnce(&mut Staged) -> Result<T, ApiError> + Send + 'static,
    ) -> impl FnOnce() -> Result<T, ApiError> + Send + 'static {
        let files = Arc::clone(&self.0);
        let none = || ApiError::internal("no file is under way");
        move || work(lock(&files).front_mut().ok_or_else(none)?)
    }

    /// Resolves when nothing is left of them.
    pub async fn remove(&self) {
        let removal = self.aside(|files| {
            files.clear();
            Ok(())
        });
        // It cannot fail, and who is to be told has an error already.
        let _ = removal.await;
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        if self.0.try_lock().is_ok_and(|files| files.is_empty()) {
            return;
        }
        let files = Arc::clone(&self.0);
        // Without one there is nobody who would wait.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn_blocking(move || lock(&files).clear());
        }
    }
}

fn lock(files: &Mutex<Files>) -> MutexGuard<'_, Files> {
    files.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::mpsc;
    use std::task::{Context, Waker};

    use tokio::runtime::Builder;
    use tokio::task::spawn_blocking;

    use super::*;
    use crate::filesystem::Owner;

    fn begin(files: &mut Files, path: &Path) -> Result<(), ApiError> {
        let owner = Owner::of(&fs::metadata("/proc/self").unwrap());
        files.push_front(Staged::create(path.to_owned(), owner, false)?);
        Ok(())
    }

    /// With one thread that may block: what runs there comes one after another.
    fn run(test: impl AsyncFnOnce(&Path)) {
        let folder = tempfile::tempdir().unwrap();
        let runtime = Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        runtime.block_on(test(folder.path()));
    }

    fn count(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn files_of_a_request_that_is_given_up_go_on_a_thread_that_may_block_and_leave_nothing() {
        run(async |folder| {
            let underway = Underway::default();
            for path in ["a/first", "a/b/second", "third"].map(|name| folder.join(name)) {
                underway.aside(move |files| begin(files, &path)).await.unwrap();
            }
            let (free, busy) = mpsc::channel::<()>();
            let work = spawn_blocking(move || busy.recv());
            drop(underway);
            assert_eq!(count(folder), 2);
            free.send(()).unwrap();
            work.await.unwrap().unwrap();
            spawn_blocking(|| ()).await.unwrap();
            assert_eq!(count(folder), 0);
        });
    }

    #[test]
    fn a_file_that_is_being_begun_when_its_request_is_given_up_is_removed() {
        run(async |folder| {
            let underway = Underway::default();
            let path = folder.join("a/file");
            let (free, busy) = mpsc::channel::<()>();
            let mut work = Box::pin(underway.aside(move |files| {
                busy.recv().unwrap();
                begin(files, &path)
            }));
            assert!(work.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            drop(work);
            drop(underway);
            free.send(()).unwrap();
            spawn_blocking(|| ()).await.unwrap();
            assert_eq!(count(folder), 0);
        });
    }
}
