//! What QEMU says of the machine's disks.

use serde::Deserialize;
use serde_json::Value;

/// A block node.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Node {
    #[serde(default)]
    pub node_name: String,
    /// The driver, such as `qcow2`.
    #[serde(rename = "drv")]
    pub driver: String,
    #[serde(rename = "ro")]
    pub is_read_only: bool,
    /// The file, or a description of one that starts with `json:`.
    pub file: String,
    pub image: Image,
    #[serde(default, rename = "dirty-bitmaps")]
    pub bitmaps: Vec<Bitmap>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Image {
    #[serde(rename = "virtual-size")]
    pub size_bytes: u64,
    #[serde(default)]
    pub format_specific: Value,
}

/// A dirty bitmap of a node.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Bitmap {
    /// None: of a job.
    #[serde(default)]
    pub name: String,
    pub granularity: u64,
    #[serde(rename = "recording")]
    pub is_recording: bool,
    #[serde(rename = "busy")]
    pub is_busy: bool,
    #[serde(default, rename = "inconsistent")]
    pub is_inconsistent: bool,
}

impl Node {
    /// Whether bitmaps can be stored with it: a qcow2 image of version 3 that can be written to.
    pub fn stores_bitmaps(&self) -> bool {
        let compatible = self.image.format_specific.pointer("/data/compat");
        self.driver == "qcow2"
            && !self.is_read_only
            && compatible.and_then(Value::as_str) == Some("1.1")
    }

    /// Whether a job of somebody stands between the guest and the image.
    pub fn is_of_a_job(&self) -> bool {
        ["copy-before-write", "mirror_top", "commit_top"].contains(&self.driver.as_str())
    }
}

/// What a guest sees as a disk.
#[derive(Debug, Clone, Deserialize)]
struct Device {
    #[serde(default)]
    device: String,
    #[serde(default)]
    qdev: String,
    inserted: Option<Inserted>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Inserted {
    #[serde(default)]
    node_name: String,
}

impl Device {
    /// Whether the user means this one: by its drive, by the id of the device, or by its path.
    fn is_called(&self, name: &str) -> bool {
        let path = self.qdev.strip_prefix("/machine/peripheral/").unwrap_or(&self.qdev);
        let id = path.split('/').next().unwrap_or(path);
        self.device == name || self.qdev == name || id == name
    }

    fn node(&self) -> Option<&str> {
        self.inserted.as_ref().map(|it| it.node_name.as_str())
    }

    /// What it is called, best name first.
    fn name(&self) -> Option<&str> {
        let path = self.qdev.strip_prefix("/machine/peripheral/");
        let id = path.and_then(|path| path.split('/').next());
        [Some(self.device.as_str()), id, self.node()]
            .into_iter()
            .flatten()
            .find(|name| !name.is_empty())
    }
}

/// Devices and nodes of a machine at one moment.
#[derive(Debug)]
pub(super) struct Graph {
    devices: Vec<Device>,
    pub nodes: Vec<Node>,
}

impl Graph {
    /// From what `query-block` and `query-named-block-nodes` return.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn new(devices: Value, nodes: Value) -> Result<Self, String> {
        let told = |error: serde_json::Error| format!("what QEMU says of its disks: {error}");
        let devices = serde_json::from_value(devices).map_err(told)?;
        let nodes = serde_json::from_value(nodes).map_err(told)?;
        Ok(Self { devices, nodes })
    }

    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.node_name == name)
    }

    /// The node that the guest's disk `name` is read from and written to.
    ///
    /// # Errors
    /// Why there is not exactly one, in words.
    pub fn disk(&self, name: &str) -> Result<&Node, String> {
        let mut nodes: Vec<&str> = self
            .devices
            .iter()
            .filter(|device| device.is_called(name) || device.node() == Some(name))
            .filter_map(Device::node)
            .collect();
        nodes.sort_unstable();
        nodes.dedup();
        match nodes[..] {
            [node] => self.node(node).ok_or_else(|| format!("{node} is no block node")),
            [] => Err(format!("the machine has no disk {name:?}; it has {}", self.names())),
            _ => Err(format!("{name:?} may be {}; name the node", nodes.join(" or "))),
        }
    }

    fn names(&self) -> String {
        let with_medium = self.devices.iter().filter(|device| device.inserted.is_some());
        let names: Vec<&str> = with_medium.filter_map(Device::name).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn graph() -> Graph {
        let inserted = |node: &str| json!({ "node-name": node });
        let devices = json!([
            { "device": "", "qdev": "/machine/peripheral/dev0/virtio-backend",
              "inserted": inserted("disk0") },
            { "device": "old", "qdev": "/machine/peripheral-anon/device[0]/virtio-backend",
              "inserted": inserted("#block145") },
            { "device": "disk0", "qdev": "x", "inserted": inserted("other") },
            { "device": "cd", "qdev": "y" },
        ]);
        let node = |name: &str, compat: &str| {
            json!({ "node-name": name, "drv": "qcow2", "ro": false, "file": "/a", "image":
                { "virtual-size": 512, "filename": "/a",
                  "format-specific": { "data": { "compat": compat } } } })
        };
        let nodes = json!([node("disk0", "1.1"), node("#block145", "0.10"), node("other", "1.1")]);
        Graph::new(devices, nodes).unwrap()
    }

    #[test]
    fn a_disk_is_found_by_device_drive_path_and_node() {
        let graph = graph();
        for (name, node) in [
            ("dev0", "disk0"),
            ("/machine/peripheral/dev0/virtio-backend", "disk0"),
            ("old", "#block145"),
            ("#block145", "#block145"),
        ] {
            assert_eq!(graph.disk(name).unwrap().node_name, node, "{name}");
        }
        assert!(graph.disk("dev0").unwrap().stores_bitmaps());
        assert!(!graph.disk("old").unwrap().stores_bitmaps());
    }

    #[test]
    fn a_disk_that_is_none_or_two_is_told_with_what_there_is() {
        let graph = graph();
        for name in ["vda", "cd", "dev"] {
            let error = graph.disk(name).unwrap_err();
            assert!(error.ends_with("it has dev0, old, disk0"), "{error}");
        }
        let error = graph.disk("disk0").unwrap_err();
        assert!(error.contains("disk0 or other"), "{error}");
    }

    #[test]
    fn an_answer_of_another_shape_is_told() {
        assert!(Graph::new(json!({}), json!([])).is_err());
        assert!(Graph::new(json!([]), json!([{ "node-name": 7 }])).is_err());
    }
}
