//! Changes to inputs: bits and bytes, numbers set to extremes, pieces cut out, doubled, swapped,
//! put in from another input.

use afterimage::testing::Random;

/// Numbers at which lengths, offsets and counts go wrong.
const EXTREMES: [u64; 14] = [
    0,
    1,
    0x7f,
    0xff,
    0x200,
    0x7fff,
    0xffff,
    0x0001_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_f000,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];
/// What means something in a text.
const WORDS: [&str; 20] = [
    "\"",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "true",
    "-1",
    "0",
    "1e999",
    "\\u0000",
    "\n",
    "\u{1b}[2J",
    "é",
    "../",
    "18446744073709551616",
    "9223372036854775807",
    "#",
];

pub struct Mutator {
    random: Random,
    bytes_max: usize,
}

impl Mutator {
    pub fn new(random: Random, bytes_max: usize) -> Self {
        Self { random, bytes_max }
    }

    /// A changed copy of one of `inputs`.
    pub fn next(&mut self, inputs: &[&[u8]]) -> Vec<u8> {
        let mut bytes = self.pick(inputs).to_vec();
        for _ in 0..1 + self.random.below(4) {
            self.change(&mut bytes, inputs);
        }
        bytes.truncate(self.bytes_max);
        bytes
    }

    fn pick<'a>(&mut self, inputs: &[&'a [u8]]) -> &'a [u8] {
        inputs[self.random.below(inputs.len() as u64) as usize]
    }

    /// A position in `0..=len`. Headers and tables stand in front: half of all lie there.
    fn place(&mut self, len: usize) -> usize {
        let near = if self.random.chance(50) { len.min(160) } else { len };
        self.random.below(near as u64 + 1) as usize
    }

    fn range(&mut self, len: usize) -> std::ops::Range<usize> {
        let start = self.place(len);
        let longest = if self.random.chance(70) { 48 } else { len as u64 };
        let count = 1 + self.random.below(longest.max(1)) as usize;
        start..(start + count).min(len)
    }

    fn change(&mut self, bytes: &mut Vec<u8>, inputs: &[&[u8]]) {
        let len = bytes.len();
        match self.random.below(11) {
            0 | 1 if len > 0 => {
                let at = self.place(len - 1);
                bytes[at] ^= 1 << self.random.below(8);
            }
            2 if len > 0 => {
                let at = self.place(len - 1);
                bytes[at] = self.random.word() as u8;
            }
            3 | 4 => self.number(bytes),
            5 => bytes.truncate(self.place(len)),
            6 => drop(bytes.drain(self.range(len))),
            7 => {
                let piece = bytes[self.range(len)].to_vec();
                insert(bytes, self.place(len), &piece);
            }
            8 => {
                let other = self.pick(inputs);
                let piece = &other[self.range(other.len())];
                if self.random.chance(50) {
                    insert(bytes, self.place(len), piece);
                } else {
                    let at = self.place(len);
                    bytes.truncate(at);
                    bytes.extend_from_slice(piece);
                }
            }
            9 => {
                let run = vec![self.random.word() as u8; 1 + self.random.below(64) as usize];
                insert(bytes, self.place(len), &run);
            }
            _ => {
                let word = WORDS[self.random.below(WORDS.len() as u64) as usize];
                let at = self.place(len);
                if self.random.chance(50) {
                    bytes.drain(at..(at + word.len()).min(len));
                }
                insert(bytes, at, word.as_bytes());
            }
        }
    }

    /// Sets a number, in either byte order, to an extreme or to a little more or less than it is.
    fn number(&mut self, bytes: &mut [u8]) {
        let width = [2, 4, 4, 8][self.random.below(4) as usize];
        let Some(room) = bytes.len().checked_sub(width) else { return };
        // Fields stand at even places, for the most part.
        let at = self.place(room);
        let at = if self.random.chance(70) { at & !1 } else { at };
        let field = &mut bytes[at..at + width];
        let big = self.random.chance(40);
        if big {
            field.reverse();
        }
        let mut now = [0; 8];
        now[..width].copy_from_slice(field);
        let now = u64::from_le_bytes(now);
        let value = match self.random.below(3) {
            0 => now.wrapping_add(self.random.below(17)).wrapping_sub(8),
            1 => now.wrapping_shl(self.random.below(16) as u32),
            _ => EXTREMES[self.random.below(EXTREMES.len() as u64) as usize],
        };
        field.copy_from_slice(&value.to_le_bytes()[..width]);
        if big {
            field.reverse();
        }
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    let later = bytes.split_off(at.min(bytes.len()));
    bytes.extend_from_slice(piece);
    bytes.extend(later);
}
