//! Files for the demonstration's disks, and what happens to them.

use super::DemoError;
use std::fmt::Write as _;
use std::path::Path;

/// Numbers that look random and are the same every time (SplitMix64).
pub(super) struct Noise(u64);

impl Noise {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}

const WORDS: [&str; 16] = [
    "invoice", "ledger", "customer", "Hamburg", "pending", "paid", "shipment", "order", "2026",
    "quarter", "contract", "renewal", "balance", "archive", "draft", "approved",
];

/// `len` bytes of what an office writes: compressible, but not the same twice.
pub(super) fn text(noise: &mut Noise, len: usize) -> String {
    let mut text = String::with_capacity(len + 32);
    while text.len() < len {
        let number = noise.next();
        let word = WORDS[(number % WORDS.len() as u64) as usize];
        // Writing to a string does not fail.
        let _ = write!(text, "{word} {} ", number >> 40);
        if number.is_multiple_of(11) {
            text.push('\n');
        }
    }
    text
}

/// Fills `tree` with the files of the system disk.
pub(super) fn system_tree(tree: &Path) -> Result<(), DemoError> {
    let mut noise = Noise::new(1);
    for folder in 0..24 {
        let path = tree.join(format!("usr/share/app{folder}"));
        std::fs::create_dir_all(&path).map_err(|e| DemoError::io(&path, e))?;
        for file in 0..20 {
            write(&path.join(format!("module{file}.conf")), text(&mut noise, 40_000).as_bytes())?;
        }
        write(&path.join("library.so"), &noise.bytes(1_500_000))?;
    }
    let etc = tree.join("etc");
    std::fs::create_dir_all(&etc).map_err(|e| DemoError::io(&etc, e))?;
    write(&etc.join("hostname"), b"web01\n")
}

/// Fills `tree` with the files of the data disk.
pub(super) fn data_tree(tree: &Path) -> Result<(), DemoError> {
    let mut noise = Noise::new(2);
    let path = tree.join("accounts");
    std::fs::create_dir_all(&path).map_err(|e| DemoError::io(&path, e))?;
    for file in 0..300 {
        write(&path.join(format!("customer{file}.txt")), text(&mut noise, 90_000).as_bytes())?;
    }
    write(&path.join("ledger.txt"), b"balance 1000\n")
}

fn write(path: &Path, content: &[u8]) -> Result<(), DemoError> {
    std::fs::write(path, content).map_err(|e| DemoError::io(path, e))
}

/// What ransomware does to a disk: every block that holds something becomes noise.
pub(super) fn encrypt_disk(path: &Path) -> Result<u64, DemoError> {
    use std::os::unix::fs::FileExt;
    const BLOCK_BYTES: usize = 64 * 1024;
    let error = |e| DemoError::io(path, e);
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).map_err(error)?;
    let size = file.metadata().map_err(error)?.len();
    let mut noise = Noise::new(666);
    let mut block = vec![0; BLOCK_BYTES];
    let mut spoilt = 0;
    for offset in (0..size).step_by(BLOCK_BYTES) {
        let len = (size - offset).min(BLOCK_BYTES as u64) as usize;
        file.read_exact_at(&mut block[..len], offset).map_err(error)?;
        if block[..len].iter().any(|byte| *byte != 0) {
            file.write_all_at(&noise.bytes(len), offset).map_err(error)?;
            spoilt += len as u64;
        }
    }
    file.sync_all().map_err(error)?;
    Ok(spoilt)
}
