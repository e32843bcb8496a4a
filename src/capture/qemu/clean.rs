//! Removing what a capture made: at its end, and at the beginning of the next one, when a run was
//! cut off. Everything is found by its mark; what carries another mark, or none, stays.
//!
//! The order is that of dependence, backwards: who reads, what is written, what it is written to.

use super::freeze::{has_object, thaw_left, unset_object};
use super::names::Mark;
use super::nodes::Graph;
use crate::qmp::{Monitor, QmpError};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest wait for QEMU to let go of an export or a job.
const GONE_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// What to remove.
#[derive(Debug)]
pub(super) struct Cleaning<'a> {
    pub mark: &'a Mark,
    /// The guest agent's socket.
    pub agent: Option<&'a Path>,
    /// Where scratch files can lie, besides the folders of the disks.
    pub folders: &'a [PathBuf],
    /// Bitmaps that stay.
    pub keep: &'a BTreeSet<String>,
}

impl Cleaning<'_> {
    /// Removes it. Gives back what could not be removed, in words; the next run tries again.
    ///
    /// # Errors
    /// When QEMU does not answer any more.
    pub fn run(&self, monitor: &mut Monitor) -> Result<Vec<String>, QmpError> {
        let mut left = Vec::new();
        self.thaw(monitor, &mut left)?;
        self.remove_exports(monitor, &mut left)?;
        self.remove_jobs(monitor, &mut left)?;
        let graph = graph(monitor)?;
        self.remove_nodes(monitor, &graph, &mut left)?;
        self.remove_bitmaps(monitor, &graph, &mut left)?;
        self.remove_files(&graph, &mut left);
        self.remove_sockets();
        Ok(left)
    }

    fn thaw(&self, monitor: &mut Monitor, left: &mut Vec<String>) -> Result<(), QmpError> {
        if !has_object(monitor, &self.mark.frozen())? {
            return Ok(());
        }
        match self.agent.map(|agent| thaw_left(monitor, agent, self.mark)) {
            Some(Ok(())) => {}
            Some(Err(error)) => left.push(format!("the guest may still be frozen: {error}")),
            None => left.push(
                "the guest may still be frozen: it was frozen through an agent, and now none is \
                 given; set `agent`"
                    .to_owned(),
            ),
        }
        Ok(())
    }

    fn remove_exports(
        &self,
        monitor: &mut Monitor,
        left: &mut Vec<String>,
    ) -> Result<(), QmpError> {
        let prefix = self.mark.prefix();
        let exports = ids(monitor, "query-block-exports", "id")?;
        for id in exports.iter().filter(|id| id.starts_with(&prefix)) {
            let arguments = json!({ "id": id, "mode": "hard" });
            settle(monitor.execute("block-export-del", arguments), left)?;
        }
        wait_until_gone(monitor, &prefix, "query-block-exports", left)?;
        let serving = self.mark.serving();
        if has_object(monitor, &serving)? {
            // Only one can be there: if somebody else's export is served, the server is theirs.
            if ids(monitor, "query-block-exports", "id")?.is_empty() {
                match monitor.execute("nbd-server-stop", json!({})) {
                    // Refused: the run was cut off before it was started.
                    Ok(_) | Err(QmpError::Refused { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            // Refused, where the server took it.
            let descriptor = json!({ "fdname": self.mark.descriptor() });
            settle(monitor.execute("closefd", descriptor), &mut Vec::new())?;
            unset_object(monitor, &serving)?;
        }
        Ok(())
    }

    fn remove_jobs(&self, monitor: &mut Monitor, left: &mut Vec<String>) -> Result<(), QmpError> {
        let prefix = self.mark.prefix();
        let until = Instant::now() + GONE_LIMIT;
        loop {
            let jobs = monitor.execute("query-jobs", json!({}))?;
            let ours = jobs.as_array().into_iter().flatten().filter_map(|job| {
                let id = job["id"].as_str().filter(|id| id.starts_with(&prefix))?;
                Some((id.to_owned(), job["status"].as_str().unwrap_or("").to_owned()))
            });
            let ours: Vec<(String, String)> = ours.collect();
            if ours.is_empty() {
                return Ok(());
            }
            if Instant::now() > until {
                left.push(format!("the job {} does not end", ours[0].0));
                return Ok(());
            }
            for (id, status) in ours {
                let command = match status.as_str() {
                    "concluded" => "job-dismiss",
                    "aborting" | "undefined" | "null" => continue,
                    _ => "job-cancel",
                };
                // A job that changed meanwhile refuses; it is looked at again.
                let done = monitor.execute(command, json!({ "id": id }));
                settle(done, &mut Vec::new())?;
            }
            std::thread::sleep(POLL);
        }
    }

    fn remove_nodes(
        &self,
        monitor: &mut Monitor,
        graph: &Graph,
        left: &mut Vec<String>,
    ) -> Result<(), QmpError> {
        let prefix = self.mark.node_prefix();
        // The scratch images first, then their files.
        for driver_is_file in [false, true] {
            let ours = graph.nodes.iter().filter(|node| node.node_name.starts_with(&prefix));
            for node in ours.filter(|node| (node.driver == "file") == driver_is_file) {
                let arguments = json!({ "node-name": node.node_name });
                settle(monitor.execute("blockdev-del", arguments), left)?;
            }
        }
        Ok(())
    }

    /// Removes only the bitmaps that are not kept. Gives back what is left, in words.
    ///
    /// # Errors
    /// When QEMU does not answer any more.
    pub fn retire_bitmaps(&self, monitor: &mut Monitor) -> Result<Vec<String>, QmpError> {
        let mut left = Vec::new();
        let before = graph(monitor)?;
        self.remove_bitmaps(monitor, &before, &mut left)?;
        // QEMU has said that bitmaps were removed that were not.
        let prefix = self.mark.prefix();
        for node in graph(monitor)?.nodes {
            let stays = |name: &&String| name.starts_with(&prefix) && !self.keep.contains(*name);
            let names = node.bitmaps.iter().map(|bitmap| &bitmap.name);
            left.extend(names.filter(stays).map(|name| format!("the bitmap {name} stays")));
        }
        Ok(left)
    }

    fn remove_bitmaps(
        &self,
        monitor: &mut Monitor,
        graph: &Graph,
        left: &mut Vec<String>,
    ) -> Result<(), QmpError> {
        let prefix = self.mark.prefix();
        for node in &graph.nodes {
            let ours = node.bitmaps.iter().filter(|bitmap| bitmap.name.starts_with(&prefix));
            // A filter shows the bitmaps of what is below it as its own, but has none.
            for bitmap in ours.filter(|bitmap| !self.keep.contains(&bitmap.name)) {
                let arguments = json!({ "node": node.node_name, "name": bitmap.name });
                settle(monitor.execute("block-dirty-bitmap-remove", arguments), left)?;
            }
        }
        Ok(())
    }

    fn remove_files(&self, graph: &Graph, left: &mut Vec<String>) {
        let mut folders: BTreeSet<&Path> = self.folders.iter().map(PathBuf::as_path).collect();
        folders.extend(graph.nodes.iter().filter_map(|node| Path::new(&node.file).parent()));
        for folder in folders.into_iter().filter(|folder| folder.is_absolute()) {
            // A folder that cannot be read is none in which this process could leave something.
            let Ok(entries) = std::fs::read_dir(folder) else { continue };
            let files = entries.flatten().map(|entry| entry.path());
            for path in files.filter(|path| self.mark.is_scratch(path)) {
                if let Err(error) = std::fs::remove_file(&path) {
                    left.push(format!("cannot remove {}: {error}", path.display()));
                }
            }
        }
    }

    fn remove_sockets(&self) {
        let prefix = self.mark.prefix();
        let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else { return };
        let is_ours = |entry: &std::fs::DirEntry| {
            entry.file_name().to_str().is_some_and(|name| name.starts_with(&prefix))
        };
        for folder in entries.flatten().filter(is_ours) {
            // Both fail where it is somebody else's, who chose such a name.
            let _ = std::fs::remove_file(folder.path().join(SOCKET));
            let _ = std::fs::remove_dir(folder.path());
        }
    }
}

/// The socket in its folder.
pub(super) const SOCKET: &str = "nbd";

/// Folders of sockets lie where every user can make some; their names cannot be guessed.
pub(super) fn socket_folder(name: &str) -> PathBuf {
    std::env::temp_dir().join(name)
}

/// What QEMU says of its disks now.
pub(super) fn graph(monitor: &mut Monitor) -> Result<Graph, QmpError> {
    let devices = monitor.execute("query-block", json!({}))?;
    let nodes = monitor.execute("query-named-block-nodes", json!({ "flat": true }))?;
    let path = monitor.path().to_owned();
    let garbage = |found| QmpError::Garbage { path, expected: "a QEMU monitor", found };
    Graph::new(devices, nodes).map_err(garbage)
}

/// The ids of what a query lists.
fn ids(monitor: &mut Monitor, query: &str, key: &str) -> Result<Vec<String>, QmpError> {
    let listed = monitor.execute(query, json!({}))?;
    let ids = listed.as_array().into_iter().flatten();
    Ok(ids.filter_map(|item| Some(item[key].as_str()?.to_owned())).collect())
}

fn wait_until_gone(
    monitor: &mut Monitor,
    prefix: &str,
    query: &str,
    left: &mut Vec<String>,
) -> Result<(), QmpError> {
    let until = Instant::now() + GONE_LIMIT;
    loop {
        let there = ids(monitor, query, "id")?;
        let Some(id) = there.into_iter().find(|id| id.starts_with(prefix)) else { return Ok(()) };
        if Instant::now() > until {
            left.push(format!("the export {id} does not go away"));
            return Ok(());
        }
        std::thread::sleep(POLL);
    }
}

/// What QEMU refused is told; that it does not answer is an error.
fn settle(done: Result<Value, QmpError>, left: &mut Vec<String>) -> Result<(), QmpError> {
    match done {
        Ok(_) => Ok(()),
        Err(error @ QmpError::Refused { .. }) => {
            left.push(error.to_string());
            Ok(())
        }
        Err(error) => Err(error),
    }
}
