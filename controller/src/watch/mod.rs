//! Folders of documents: read whole, and read again when something in them changes.
//!
//! A change is waited for with `notify`; a folder is read once it has been quiet for a moment, so that several files
//! that change together are one change. Network file systems tell nobody, so it is also read now and then. What
//! is published is always a whole reading, and only if it differs from the one before.

mod folder;

pub use folder::{FolderError, Folders, read};

use crate::limits::{FOLDER_BUSY_MAX, FOLDER_POLL, FOLDER_QUIET};
use bulkhead_policies::diagnostics::Source;
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// The last reading of a set of folders.
pub type Reading = Arc<Result<Vec<Source>, FolderError>>;

/// Watches folders for as long as it lives.
#[derive(Debug)]
pub struct Watch {
    /// The readings, newest only.
    pub readings: watch::Receiver<Reading>,
    task: JoinHandle<()>,
    // Held so that events keep coming.
    _watcher: Option<RecommendedWatcher>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watch {
    /// Begins with a first reading. A folder that cannot be watched is polled, and the log says so.
    pub async fn start(mut folders: Folders) -> Self {
        let touched = Arc::new(Notify::new());
        // Watched before it is read: a change between the two is seen.
        let watcher = watch_all(folders.roots(), touched.clone());
        let first = Arc::new(read_all(&mut folders).await);
        let (sender, readings) = watch::channel(first);
        let task = tokio::spawn(follow(folders, touched, sender));
        Self { readings, task, _watcher: watcher }
    }
}

async fn follow(mut folders: Folders, touched: Arc<Notify>, readings: watch::Sender<Reading>) {
    loop {
        tokio::select! {
            () = touched.notified() => settle(&touched).await,
            () = sleep(FOLDER_POLL) => {}
            () = readings.closed() => return,
        }
        let reading = read_all(&mut folders).await;
        readings.send_if_modified(|last| {
            let changed = **last != reading;
            if changed {
                *last = Arc::new(reading);
            }
            changed
        });
    }
}

/// Returns when nothing was touched for a moment, or when that takes too long.
async fn settle(touched: &Notify) {
    let deadline = Instant::now() + FOLDER_BUSY_MAX;
    let quiet = async { while timeout(FOLDER_QUIET, touched.notified()).await.is_ok() {} };
    tokio::select! {
        () = quiet => {}
        () = sleep_until(deadline) => {}
    }
}

async fn read_all(folders: &mut Folders) -> Result<Vec<Source>, FolderError> {
    let mut lent = folders.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let outcome = lent.read();
        (lent, outcome)
    });
    match reading.await {
        Ok((lent, outcome)) => {
            *folders = lent;
            outcome
        }
        Err(panic) => Err(FolderError::Interrupted { problem: panic.to_string() }),
    }
}

fn watch_all(roots: &[PathBuf], touched: Arc<Notify>) -> Option<RecommendedWatcher> {
    let on_event = move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !changes_something(event.kind)) {
            return;
        }
        // An error, too, is a reason to look: events may have been lost.
        touched.notify_one();
    };
    let mut watcher = match notify::recommended_watcher(on_event) {
        Ok(watcher) => watcher,
        Err(error) => {
            tracing::warn!(%error, "folders cannot be watched: they are read every {FOLDER_POLL:?} instead");
            return None;
        }
    };
    for root in roots {
        if let Err(error) = watcher.watch(root, RecursiveMode::Recursive) {
            let folder = root.display();
            tracing::warn!(%folder, %error, "folder cannot be watched: it is read every {FOLDER_POLL:?} instead");
        }
    }
    Some(watcher)
}

/// Reading a folder must not look like a change of it.
fn changes_something(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::Duration;

    #[tokio::test]
    async fn a_file_that_is_renamed_into_place_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut watch = Watch::start(whole(&folder)).await;
        fs::write(folder.path().join(".unfinished"), "kind: A").expect("written");
        fs::rename(folder.path().join(".unfinished"), folder.path().join("a.yaml")).expect("renamed");
        assert_eq!(next_names(&mut watch).await, ["a.yaml"]);
    }

    #[tokio::test]
    async fn a_file_in_a_new_folder_and_its_removal_are_seen() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut watch = Watch::start(whole(&folder)).await;
        fs::create_dir(folder.path().join("team")).expect("made");
        fs::write(folder.path().join("team/b.yaml"), "kind: B").expect("written");
        assert_eq!(next_names(&mut watch).await, ["b.yaml"]);
        fs::remove_dir_all(folder.path().join("team")).expect("removed");
        assert_eq!(next_names(&mut watch).await, [""; 0]);
    }

    #[tokio::test]
    async fn what_does_not_change_a_document_is_not_told() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("a.yaml"), "kind: A").expect("written");
        let mut watch = Watch::start(whole(&folder)).await;
        fs::write(folder.path().join("notes.txt"), "not ours").expect("written");
        fs::write(folder.path().join("a.yaml"), "kind: A").expect("written again, the same");
        fs::write(folder.path().join("z.yaml"), "kind: Z").expect("written");
        assert_eq!(next_names(&mut watch).await, ["a.yaml", "z.yaml"], "the first news is the first change");
    }

    #[tokio::test]
    async fn a_folder_that_goes_is_told_as_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("inventory");
        fs::create_dir(&root).expect("made");
        fs::write(root.join("a.yaml"), "kind: A").expect("written");
        let mut watch = Watch::start(Folders::new(vec![root.clone()], vec![root.clone()])).await;
        fs::rename(&root, folder.path().join("elsewhere")).expect("moved away");
        timeout(Duration::from_secs(20), watch.readings.changed()).await.expect("in time").expect("alive");
        let reading = watch.readings.borrow_and_update().clone();
        assert_eq!(*reading, Err(FolderError::Gone { path: root.display().to_string() }));
    }

    fn whole(folder: &tempfile::TempDir) -> Folders {
        let roots = vec![folder.path().to_owned()];
        Folders::new(roots.clone(), roots)
    }

    async fn next_names(watch: &mut Watch) -> Vec<String> {
        timeout(Duration::from_secs(20), watch.readings.changed()).await.expect("in time").expect("alive");
        let reading = watch.readings.borrow_and_update().clone();
        let sources = reading.as_ref().as_ref().expect("readable");
        sources.iter().map(|s| s.name.rsplit('/').next().unwrap_or_default().to_owned()).collect()
    }
}
