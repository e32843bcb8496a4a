//! The first inputs of each target: from the fixtures, and from the code's own encoders. Names that
//! begin with `seed-` are given to what comes from here: each must be accepted.

mod nbd;
mod replicas;

use crate::targets::world::joined;
use afterimage::audit::{AuditEntry, AuditLog, AuditOutcome, Rotation};
use afterimage::fsio::RealFileSystem;
use afterimage::point::{Leaf, Node, Span};
use afterimage::store::{Codec, Encoding};
use afterimage::testing::noise;
use afterimage::units::{ChunkName, TreeName};
use replicas::{journals, superblocks, whole};
use std::path::{Path, PathBuf};

const RUN: &str = r#"{"id":"00000000000000000000000000000000","kind":"backup","machine":"web01",
"replica":null,"started":"2026-01-01T00:00:00Z","status":"completed","ended":"2026-01-01T00:00:09Z",
"point":null,"bytes_read":1,"bytes_changed":2,"bytes_new":3,"bytes_stored":4,"bytes_written":5,
"reason":null}"#;

const CHANGED_OUTPUT: &str = r#"{"format":1,"extents":[[4096,4096],[0,512],[8192,100]]}"#;

const DOMAIN: &str = "<domain type='kvm' id='3'><name>a</name><uuid>0a-1b</uuid><os>
<nvram template='/t'>/var/a_VARS.fd</nvram></os><devices><disk type='file' device='disk'>
<driver name='qemu' type='qcow2'/><source file='/a&amp;b.qcow2'/><target dev='vda'/></disk>
<disk type='block' device='lun'><source dev='/dev/b'/><target dev='sda'/></disk>
<disk type='file' device='cdrom'><target dev='sdb'/><readonly/></disk></devices>
<seclabel model='dac'><label>+64055:+108</label></seclabel></domain>";

const QMP_LINES: &str = r#"{"QMP":{"version":{"qemu":{"micro":2,"minor":0,"major":10},"package":""},"capabilities":["oob"]}}
{"timestamp":{"seconds":1,"microseconds":2},"event":"JOB_STATUS_CHANGE","data":{"status":"running","id":"a"}}
{"return":[{"id":"a","status":"concluded","error":"no"}],"id":7}
{"id":8,"error":{"class":"GenericError","desc":"Job not found"}}
"#;
const AGENT_LINES: &[u8] = b"{\"return\":2}\n\xff{\"return\":1}\n{\"return\":\"thawed\"}\n";

/// Inputs with the ends of their names.
type Seeds = Vec<(String, Vec<u8>)>;

pub fn all() -> Vec<(&'static str, Seeds)> {
    let documents = |folder: &str| sealed_documents(folder);
    let journals = journals();
    let superblocks = superblocks();
    vec![
        ("audit", audit_logs()),
        ("catalog", rows("manifest", manifest_json())),
        ("changed-list", vec![seed("list", changed_list().as_bytes())]),
        ("changed-output", vec![seed("list", CHANGED_OUTPUT.as_bytes())]),
        ("condemned", documents("retention-1/plain/condemned")),
        ("domain", vec![seed("running", DOMAIN.as_bytes())]),
        ("header", files(&["format-1/plain/repository/repository.json"])),
        ("history", rows("run", RUN.as_bytes().to_vec())),
        ("hold", documents("retention-1/plain/holds")),
        ("journal", journals.clone()),
        ("journal-repaired", journals),
        ("key-export", files(&["slots-2/export.json"])),
        ("leaf", leaves()),
        ("location", locations()),
        ("lock-note", vec![seed("note", br#"{"work":"backup","pid":12,"host":"web01"}"#)]),
        ("manifest", documents("format-1/plain/repository/points")),
        ("names", texts(&["web01.example.com", "safe in the office", "32 KiB", &"a7".repeat(16)])),
        ("nbd-client", nbd::of_servers()),
        ("nbd-server", nbd::of_clients()),
        ("node", nodes()),
        ("object", objects()),
        ("pack", packs("plain")),
        ("pack-repaired", packs("plain")),
        ("pack-sealed", packs("key-file")),
        ("point-choice", point_choices()),
        ("probe", vec![seed("raw", &[&[0; 512][..], b"data"].concat()), qcow2_images().remove(0)]),
        ("qcow2", qcow2_images()),
        ("qcow2-chain", qcow2_chains()),
        ("qmp", vec![seed("lines", QMP_LINES.as_bytes()), seed("agent", AGENT_LINES)]),
        ("recovery-key", recovery_keys()),
        ("removal", documents("retention-1/plain/removed")),
        ("daemon-answer", answers()),
        ("schedule", schedules()),
        ("settings", settings()),
        ("slot", slots()),
        ("slot-index", slot_indexes()),
        // The zeros in a whole one fill it: two will do.
        (
            "superblock",
            [0, 3].map(|at| (superblocks[at].0.clone(), whole(&superblocks[at].1))).into(),
        ),
        ("superblock-repaired", superblocks),
        ("token", texts(&[&format!("aft_{}", "Az09-_x".repeat(7).split_at(43).0)])),
        ("tree", trees()),
    ]
}

fn seed(name: &str, bytes: &[u8]) -> (String, Vec<u8>) {
    (name.to_owned(), bytes.to_vec())
}

/// A database as it was, and one with another text in its rows.
fn rows(name: &str, text: Vec<u8>) -> Seeds {
    vec![seed("untouched", b"P"), seed(name, &[b"R", &text[..]].concat())]
}

fn manifest_json() -> Vec<u8> {
    let mut points = below(&fixtures().join("format-1/plain/repository/points"));
    points.remove(0).1.split_off(64)
}

fn texts(texts: &[&str]) -> Seeds {
    texts.iter().enumerate().map(|(at, text)| seed(&at.to_string(), text.as_bytes())).collect()
}

/// An audit log, and one that a crash cut off and that was gone on with.
fn audit_logs() -> Seeds {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let fs = RealFileSystem::shared();
    let record = |what: &str| {
        let log = AuditLog::new(&fs, folder.path(), Rotation::default());
        let entry = AuditEntry::new("token:ops", what, AuditOutcome::Asked);
        log.record(jiff::Timestamp::UNIX_EPOCH, &entry).unwrap();
    };
    record("POST /v1/runs");
    record("POST /v1/pause");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 20]).unwrap();
    record("POST /v1/resume");
    vec![seed("whole", &whole), seed("torn", &std::fs::read(&path).unwrap())]
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn files(paths: &[&str]) -> Seeds {
    let read = |path: &&str| std::fs::read(fixtures().join(path)).unwrap();
    paths.iter().enumerate().map(|(at, path)| (at.to_string(), read(path))).collect()
}

/// All files below a folder, sorted by their paths.
fn below(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        match path.is_dir() {
            true => found.extend(below(&path)),
            false => found.push((path.clone(), std::fs::read(path).unwrap())),
        }
    }
    found
}

fn short_name(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().chars().take(24).collect()
}

/// Documents of a plain repository, whole, and the body of each.
fn sealed_documents(folder: &str) -> Seeds {
    let mut seeds = Vec::new();
    for (path, bytes) in below(&fixtures().join(folder)) {
        let name = &short_name(&path)[..8];
        // The encrypted repository has another id.
        let [plain, sealed] = ["plain", "key-file"].map(|kind| {
            let header = format!("format-1/{kind}/repository/repository.json");
            let header = std::fs::read_to_string(fixtures().join(header)).unwrap();
            let header: serde_json::Value = serde_json::from_str(&header).unwrap();
            header["header"]["id"].as_str().unwrap().to_owned()
        });
        let body = String::from_utf8(bytes[64..].to_vec()).unwrap().replace(&plain, &sealed);
        seeds.push((format!("{name}-body"), body.into_bytes()));
        seeds.push((format!("{name}-file"), bytes));
    }
    seeds
}

fn leaves() -> Seeds {
    let chunk = |byte, len| Span::Chunk { name: ChunkName([byte; 32]), len };
    let leaf = |spans: Vec<Span>| {
        let len: u32 = spans.iter().map(Span::len).sum();
        [&len.to_le_bytes()[..], &Leaf { spans }.encode()].concat()
    };
    let mixed = vec![chunk(1, 100), Span::Hole { len: 32768 }, chunk(2, 7), chunk(1, 100)];
    vec![
        seed("chunk", &leaf(vec![chunk(9, 4096)])),
        seed("mixed", &leaf(mixed)),
        seed("region", &leaf(vec![Span::Hole { len: (16 << 20) - 512 }, chunk(3, 512)])),
    ]
}

fn node_of(children: &[usize]) -> Node {
    let mut node = Node::default();
    for child in children {
        node.children[*child] = Some(TreeName([*child as u8 ^ 0x55; 32]));
    }
    node
}

fn nodes() -> Seeds {
    let node =
        |level: u8, children: &[usize]| [&[level][..], &node_of(children).encode(level)].concat();
    vec![seed("few", &node(1, &[0, 7, 8, 255])), seed("one", &node(8, &[1]))]
}

fn objects() -> Seeds {
    let mut codec = Codec::new(3).unwrap();
    let mut object = |plain: &[u8]| {
        let encoded = codec.encode(plain, |_| true).unwrap();
        let mut bytes = vec![encoded.encoding.to_byte()];
        bytes.extend(encoded.plain_len.to_le_bytes());
        bytes.extend(encoded.bytes);
        bytes
    };
    let (text, random) = (b"all work and no play ".repeat(60), noise(5, 300));
    vec![seed("text", &object(&text)), seed("noise", &object(&random)), seed("one", &object(b"x"))]
}

fn locations() -> Seeds {
    let location = |offset: u32, plain: &[u8], kind: u8, encoding: Encoding| {
        let stored = match encoding {
            Encoding::Raw => plain.to_vec(),
            Encoding::Zstd => zstd::bulk::compress(plain, 3).unwrap(),
        };
        let pack_header = &packs("plain")[0].1[..64].to_vec();
        let mut bytes = offset.to_le_bytes().to_vec();
        bytes.extend((stored.len() as u32).to_le_bytes());
        bytes.extend((plain.len() as u32).to_le_bytes());
        bytes.extend([kind, encoding.to_byte()]);
        bytes.extend(pack_header);
        bytes.resize(14 + offset as usize, 0);
        bytes.extend(stored);
        bytes
    };
    let text = b"all work and no play ".repeat(20);
    vec![
        seed("raw", &location(64, b"data", 0, Encoding::Raw)),
        seed("zstd", &location(70, &text, 0, Encoding::Zstd)),
        seed("leaf", &location(64, b"L\x01", 1, Encoding::Raw)),
    ]
}

/// The packs of a fixture. The larger ones are left out: what is in them adds nothing.
fn packs(kind: &str) -> Seeds {
    let folder = fixtures().join(format!("format-1/{kind}/repository/packs"));
    let small = below(&folder).into_iter().filter(|(_, bytes)| bytes.len() < 25_000);
    small.map(|(path, bytes)| (short_name(&path)[..8].to_owned(), bytes)).collect()
}

fn point_choices() -> Seeds {
    texts(&[
        "latest",
        "#2",
        "abab",
        "2026-11-22T09:30:00+01:00",
        "2026-11-22 09:30",
        "2026-11-22T09:30:00Z",
        "2026-03-29 02:30",
    ])
}

/// What `qemu-img` and `qemu-io` make of some commands, in a folder of their own.
fn qemu(make: &str) -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let status =
        std::process::Command::new("sh").args(["-ec", make]).current_dir(&folder).status().unwrap();
    assert!(status.success(), "{make}");
    below(folder.path()).into_iter().map(|(_, bytes)| bytes).collect()
}

fn qcow2_images() -> Seeds {
    let io = "qemu-io -f qcow2 -c 'write -P 3 0 3k' -c 'write -z 8k 4k' -c 'write -P 5 60k 1k'";
    let packed = "qemu-io -f qcow2 -c 'write -c -P 3 0 8k' -c 'write -P 4 32k 512'";
    let image = |name: &str, options: &str, io: &str, size: &str| {
        let create = format!("qemu-img create -q -f qcow2 -o {options} 0.img {size}");
        let make = format!("{create}; {io} 0.img >&2");
        (name.to_owned(), qemu(&make).remove(0))
    };
    let bitmap = format!("qemu-img bitmap --add -g 512 0.img changes; {io}");
    vec![
        image("bitmap", "cluster_size=512", &bitmap, "64k"),
        image("small", "cluster_size=512", io, "64k"),
        image("v2", "cluster_size=512,compat=0.10", io, "64k"),
        image("deflate", "cluster_size=4k", packed, "64k"),
        image("zstd", "cluster_size=4k,compression_type=zstd", packed, "64k"),
        image("large", "cluster_size=4k", packed, "4G"),
    ]
}

fn qcow2_chains() -> Seeds {
    let small = "qemu-img create -q -f qcow2 -o cluster_size=512";
    let on_qcow2 = format!(
        "{small} 1.img 8k; qemu-io -f qcow2 -c 'write -P 9 1k 2k' 1.img >&2;
         {small} -b 1.img -F qcow2 0.img 16k; qemu-io -f qcow2 -c 'write -P 8 2k 2k' 0.img >&2"
    );
    let on_raw = format!(
        "printf data > 1.img; truncate -s 3k 1.img; {small} -b 1.img -F raw 0.img 8k;
         qemu-io -f qcow2 -c 'write -z 0 512' 0.img >&2"
    );
    let data_file = "qemu-img create -q -f qcow2 -o cluster_size=512,data_file=1.img 0.img 8k;
                     qemu-io -f qcow2 -c 'write -P 8 1k 1k' 0.img >&2";
    let subclusters = "qemu-img create -q -f qcow2 -o cluster_size=16k,extended_l2=on 0.img 32k;
                       qemu-io -f qcow2 -c 'write -P 8 1k 1k' -c 'write -z 4k 4k' 0.img >&2";
    let chain = |name: &str, make: &str| {
        let images = qemu(make);
        let pieces: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
        (name.to_owned(), joined(&pieces))
    };
    vec![
        chain("qcow2", &on_qcow2),
        chain("raw", &on_raw),
        chain("data-file", data_file),
        chain("subclusters", subclusters),
    ]
}

fn recovery_keys() -> Seeds {
    let text = std::fs::read_to_string(fixtures().join("slots-2/recovery-key")).unwrap();
    let plain = text.to_lowercase().replace('-', "");
    texts(&[&text, &plain, &text.replace('0', "O").replace('-', " ")])
}

fn answers() -> Seeds {
    let events = ": alive\n\nid: a-1\ndata: {}\n\nevent: gap\ndata: one\ndata: two\n\n";
    let (first, second) = events.split_at(21);
    let head = "HTTP/1.1 200 OK\r\n";
    let pieces = format!(
        "{:x}\r\n{first}\r\n{:X};x=y\r\n{second}\r\n0\r\na: b\r\n\r\n",
        first.len(),
        second.len()
    );
    let all = [
        ("length", format!("{head}Content-Length: {}\r\n\r\n{events}", events.len())),
        ("pieces", format!("{head}transfer-encoding: chunked\r\n\r\n{pieces}")),
        ("rest", format!("{head}content-type: text/event-stream\r\n\r\n{events}")),
        ("nothing", "HTTP/1.1 204 No Content\r\n\r\n".to_owned()),
    ];
    all.into_iter().map(|(name, text)| (name.to_owned(), text.into_bytes())).collect()
}

fn schedules() -> Seeds {
    texts(&[
        "*/15 * * * *",
        "0 30 2 * * MON-FRI",
        "@daily",
        "0 0 29 2 *",
        "0 2 L * *",
        "0 0 * * 5#2",
    ])
}

/// The samples that are right; those that are wrong are for what they lead to.
fn settings() -> Seeds {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let is_right = |path: &Path| path.parent() == Some(&*folder);
    let all = below(&folder);
    let is_toml = |path: &Path| path.extension().is_some_and(|it| it == "toml");
    let right =
        all.iter().filter(|(path, bytes)| is_toml(path) && is_right(path) && bytes.len() < 16_000);
    right.map(|(path, bytes)| (short_name(path), bytes.clone())).collect()
}

fn changed_list() -> String {
    let since = "ab".repeat(32);
    format!(r#"{{"format":1,"since":"{since}","extents":[[4096,4096],[0,512],[8192,100]]}}"#)
}

fn slots() -> Seeds {
    let mut seeds = Vec::new();
    let folders = ["slots-2", "format-1/passphrase", "format-1/key-file"];
    for folder in folders {
        for (path, bytes) in below(&fixtures().join(folder).join("repository/keys")) {
            if !path.ends_with("index.json") {
                seeds.push((short_name(&path)[..8].to_owned(), bytes));
            }
        }
    }
    seeds
}

fn slot_indexes() -> Seeds {
    let mut seeds = files(&["slots-2/repository/keys/index.json"]);
    let text = String::from_utf8(seeds[0].1.clone()).unwrap();
    let mut index: serde_json::Value = serde_json::from_str(&text).unwrap();
    let id = index["index"]["slots"].as_object().unwrap().keys().next().unwrap().clone();
    index["index"]["change"] =
        serde_json::json!({ "adding": {}, "removing": [id], "in_place": true });
    seeds.push(("change".to_owned(), serde_json::to_vec(&index).unwrap()));
    seeds
}

fn trees() -> Seeds {
    let leaf =
        |len: u32| Leaf { spans: vec![Span::Chunk { name: ChunkName([7; 32]), len }] }.encode();
    let region = 16_u64 << 20;
    let full = {
        let name = ChunkName([8; 32]);
        let hole = Span::Hole { len: region as u32 - 4096 };
        Leaf { spans: vec![hole, Span::Chunk { name, len: 4096 }] }.encode()
    };
    let tree = |size: u64, pieces: &[&[u8]]| [&size.to_le_bytes()[..], &joined(pieces)].concat();
    let node = |level: u8, pairs: &[[u8; 2]]| [&[b'N', level][..], &pairs.concat()].concat();
    vec![
        seed("one-leaf", &tree(4096, &[&leaf(4096)])),
        seed("one-node", &tree(region * 3, &[&full, &node(1, &[[0, 0], [2, 0]])])),
        seed(
            "two-levels",
            &tree(region * 300, &[&full, &node(1, &[[0, 0], [9, 0]]), &node(2, &[[0, 1], [1, 1]])]),
        ),
        seed("zeros", &tree(region * 300, &[])),
    ]
}
