//! The few system calls that no safe crate offers. The only module with `unsafe`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

// Locks of the open file description, not of the process: POSIX locks would vanish as soon as any
// other descriptor of the same file is closed anywhere in this process.
fn byte_lock(kind: libc::c_int, offset: u32, len: u32) -> libc::flock {
    // SAFETY: `flock` is a plain C struct of integers, for which all-zero bytes are a valid value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = libc::off_t::from(offset);
    lock.l_len = libc::off_t::from(len);
    // Open-file-description locks demand a process id of 0, which zeroed() gave.
    lock
}

/// Takes a shared lock on the byte at `offset`, without waiting. It lasts until the last copy of
/// the descriptor is closed. `fd` must be open for reading.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] when someone holds the byte exclusively; anything else means
/// that the file system cannot lock.
pub fn lock_byte_shared(fd: BorrowedFd<'_>, offset: u32) -> io::Result<()> {
    let lock = byte_lock(libc::F_RDLCK, offset, 1);
    // SAFETY: the descriptor is open for as long as `fd` is borrowed, and F_OFD_SETLK only reads
    // the struct that the pointer leads to.
    let result = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
    if result == -1 {
        let error = io::Error::last_os_error();
        // Linux says EAGAIN or EACCES for a conflict.
        if error.raw_os_error() == Some(libc::EACCES) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        return Err(error);
    }
    Ok(())
}

/// Drops the locks on `len` bytes from `offset` that were taken through `fd` or a copy of it.
///
/// # Errors
/// When the file system cannot lock.
pub fn unlock_bytes(fd: BorrowedFd<'_>, offset: u32, len: u32) -> io::Result<()> {
    let lock = byte_lock(libc::F_UNLCK, offset, len);
    // SAFETY: the descriptor is open for as long as `fd` is borrowed, and F_OFD_SETLK only reads
    // the struct that the pointer leads to.
    let result = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Asks the kernel to begin writing dirty pages of the range to the medium. It is a wish: nothing
/// waits, and a file that has no such pages says so, which changes nothing. An error of the medium
/// is not consumed: the next sync of the file tells it.
pub fn begin_write_back(fd: impl AsFd, offset: u64, len_bytes: u64) {
    let (Ok(offset), Ok(len)) = (offset.try_into(), len_bytes.try_into()) else { return };
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open for as long as `fd` is borrowed; no memory is involved.
    let _ = unsafe { libc::sync_file_range(fd, offset, len, libc::SYNC_FILE_RANGE_WRITE) };
}

/// Whether another open file holds a lock, of either kind, on the byte at `offset`. Locks taken
/// through `fd` itself do not count.
///
/// # Errors
/// When the file system cannot lock.
pub fn is_byte_locked_by_others(fd: BorrowedFd<'_>, offset: u32) -> io::Result<bool> {
    let mut lock = byte_lock(libc::F_WRLCK, offset, 1);
    // SAFETY: the descriptor is open for as long as `fd` is borrowed, and F_OFD_GETLK reads and
    // writes only the struct that the pointer leads to, which outlives the call.
    let result = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(libc::c_int::from(lock.l_type) != libc::F_UNLCK)
}

/// Starts a process that has a last word for the one that it watches: when the other end of
/// `watched` is closed without a byte having come, or `limit_ms` have passed, it sends `word` to
/// `peer`. A byte makes it end without a word. It outlives signals to the process group, and holds
/// no other descriptor. Gives back its process id; somebody must wait for it.
///
/// # Errors
/// When the system has no room for another process.
pub fn leave_last_word(
    watched: BorrowedFd<'_>,
    peer: BorrowedFd<'_>,
    word: &[u8],
    limit_ms: i32,
) -> io::Result<libc::pid_t> {
    // SAFETY: this process may have threads, so until it ends the child only makes system calls and
    // touches memory that was there before: it allocates nothing and takes no lock.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => say_last_word(watched.as_raw_fd(), peer.as_raw_fd(), word, limit_ms),
        child => Ok(child),
    }
}

/// How long the last word's answer is waited for, and how often the word is said.
const LAST_ANSWER_MS: i32 = 3000;
const LAST_TRIES: u32 = 3;

/// What the child of [`leave_last_word`] does.
fn say_last_word(watched: i32, peer: i32, word: &[u8], limit_ms: i32) -> ! {
    // SAFETY: only system calls that are safe in a child after a fork, on two descriptors that the
    // child has, with memory on its own stack or of `word`, all of which outlives the calls.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
        libc::setsid();
        close_others(watched, peer);
        let mut byte = 0_u8;
        let came = readable(watched, limit_ms);
        if came && libc::read(watched, (&raw mut byte).cast(), 1) == 1 {
            libc::_exit(0);
        }
        for _ in 0..LAST_TRIES {
            libc::send(peer, word.as_ptr().cast(), word.len(), libc::MSG_NOSIGNAL);
            // Who is late but alive reads the answer itself. Else this is the last to hold the
            // connection: closed at once, the word could be dropped with it.
            if !came {
                break;
            }
            let mut answer = [0_u8; 512];
            while readable(peer, LAST_ANSWER_MS)
                && libc::read(peer, answer.as_mut_ptr().cast(), answer.len()) > 0
            {}
        }
        libc::_exit(0)
    }
}

/// Waits until `fd` can be read or was closed at the other end.
fn readable(fd: i32, limit_ms: i32) -> bool {
    let mut wanted = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: the one struct that is passed outlives the call.
    unsafe { libc::poll(&raw mut wanted, 1, limit_ms) == 1 }
}

/// Closes all descriptors but two. Kernels before 5.9 cannot: then they stay open until the end.
fn close_others(one: i32, other: i32) {
    let (low, high) = (one.min(other), one.max(other));
    let ranges = [(0, low - 1), (low + 1, high - 1), (high + 1, i32::MAX)];
    for (first, last) in ranges {
        if first <= last {
            // SAFETY: nobody in this process uses a descriptor in these ranges any more.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    }
}

/// Where a part of a file lies, as the file system tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MappedExtent {
    /// First byte within the file.
    pub logical: u64,
    /// First byte within the file system's space.
    pub physical: u64,
    /// Length in bytes.
    pub len_bytes: u64,
    /// What Linux's `fiemap.h` names `FIEMAP_EXTENT_…`.
    pub flags: u32,
}

/// At most so many extents come from one call of [`mapped_extents`].
const MAPPED_EXTENTS_MAX: usize = 256;

// Both as Linux's `fiemap.h` has them.
#[repr(C)]
#[derive(Clone, Copy)]
struct FiemapExtent {
    logical: u64,
    physical: u64,
    len_bytes: u64,
    reserved64: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

#[repr(C)]
struct Fiemap {
    start: u64,
    len_bytes: u64,
    flags: u32,
    mapped_extents: u32,
    extent_count: u32,
    reserved: u32,
}

#[repr(C)]
struct FiemapRequest {
    head: Fiemap,
    extents: [FiemapExtent; MAPPED_EXTENTS_MAX],
}

const _: () = assert!(size_of::<Fiemap>() == 32 && size_of::<FiemapExtent>() == 56);
const _: () = assert!(size_of::<FiemapRequest>() == 32 + 56 * MAPPED_EXTENTS_MAX);

/// Where the first extents of the file from byte `start` on lie, in the file system's order; none
/// when nothing is allocated from there on. What waits to be written is written first.
///
/// # Errors
/// When the file system does not tell.
pub fn mapped_extents(fd: impl AsFd, start: u64) -> io::Result<Vec<MappedExtent>> {
    const FIEMAP: rustix::ioctl::Opcode = rustix::ioctl::opcode::read_write::<Fiemap>(b'f', 11);
    const FLAG_SYNC: u32 = 1;
    let none = FiemapExtent {
        logical: 0,
        physical: 0,
        len_bytes: 0,
        reserved64: [0; 2],
        flags: 0,
        reserved: [0; 3],
    };
    let head = Fiemap {
        start,
        len_bytes: u64::MAX - start,
        flags: FLAG_SYNC,
        mapped_extents: 0,
        extent_count: MAPPED_EXTENTS_MAX as u32,
        reserved: 0,
    };
    let mut request = Box::new(FiemapRequest { head, extents: [none; MAPPED_EXTENTS_MAX] });
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open for as long as `fd` is borrowed; the kernel reads the head and
    // writes the head and at most `extent_count` extents, all of which `request` has room for.
    let result = unsafe { libc::ioctl(fd, FIEMAP as _, &raw mut *request) };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    let count = (request.head.mapped_extents as usize).min(MAPPED_EXTENTS_MAX);
    let mapped = request.extents[..count].iter().map(|extent| MappedExtent {
        logical: extent.logical,
        physical: extent.physical,
        len_bytes: extent.len_bytes,
        flags: extent.flags,
    });
    Ok(mapped.collect())
}

/// Whether the file's content lies on a device of its own, apart from the rest of the file system
/// (XFS's realtime section): then its addresses are not comparable with those of other files.
///
/// # Errors
/// When the file system does not tell.
pub fn is_on_realtime_device(fd: impl AsFd) -> io::Result<bool> {
    // As Linux's `fs.h` has it.
    #[repr(C)]
    #[derive(Default)]
    struct FsXattr {
        flags: u32,
        extent_size: u32,
        extents: u32,
        project: u32,
        cow_extent_size: u32,
        padding: [u8; 8],
    }
    const _: () = assert!(size_of::<FsXattr>() == 28);
    const FS_GET_XATTR: rustix::ioctl::Opcode = rustix::ioctl::opcode::read::<FsXattr>(b'X', 31);
    const FLAG_REALTIME: u32 = 1;
    let mut attributes = FsXattr::default();
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open for as long as `fd` is borrowed; the kernel writes only the
    // struct that the pointer leads to.
    let result = unsafe { libc::ioctl(fd, FS_GET_XATTR as _, &raw mut attributes) };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(attributes.flags & FLAG_REALTIME != 0)
}

/// The time since the system started, suspends included (`CLOCK_BOOTTIME`).
pub fn boot_time() -> std::time::Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer leads to a struct of the kind that the call fills. Linux has had this
    // clock since 2.6.39; without it, the struct stays zero.
    let _ = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    std::time::Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// How far a thread stands back from others when disks are busy, where the disk's scheduler heeds
/// it. Source: Linux's `ioprio.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoPriority {
    /// As its niceness has it.
    Normal,
    /// A level of the best-effort class, 0 (first) to 7 (last).
    BestEffort(u8),
    /// Only when nobody else wants the disk.
    Idle,
}

const IO_CLASS_SHIFT: u32 = 13;
const IO_CLASS_NONE: libc::c_long = 0;
const IO_CLASS_BEST_EFFORT: libc::c_long = 2;
const IO_CLASS_IDLE: libc::c_long = 3;
const IO_WHO_THREAD: libc::c_int = 1;

/// Sets the calling thread's I/O priority. Threads and processes that it starts from now on have the
/// same.
///
/// # Errors
/// When the level is not known, or the system does not allow it.
pub fn set_io_priority(priority: IoPriority) -> io::Result<()> {
    let (class, level) = match priority {
        IoPriority::Normal => (IO_CLASS_NONE, 0),
        IoPriority::BestEffort(level) => (IO_CLASS_BEST_EFFORT, libc::c_long::from(level)),
        IoPriority::Idle => (IO_CLASS_IDLE, 0),
    };
    if level > 7 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let value = class << IO_CLASS_SHIFT | level;
    // SAFETY: three numbers are passed, and no memory.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, IO_WHO_THREAD, 0, value) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Lets all threads of this process take memory from few pools. Each thread would else get one of its
/// own, up to eight for each processor, and what it has freed would stay in there: a daemon that does
/// each run on a new thread would keep the most that a run ever needed many times over. Call it
/// before other threads begin.
pub fn share_memory_pools(pools: u16) {
    #[cfg(target_env = "gnu")]
    // SAFETY: it only sets a number of the allocator, which takes its own lock for that.
    let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, libc::c_int::from(pools)) };
    #[cfg(not(target_env = "gnu"))]
    let _ = pools;
}

/// Gives what is free in the pools back to the system.
pub fn give_back_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the allocator takes its own locks, and gives back only what nobody holds.
    let _ = unsafe { libc::malloc_trim(0) };
}
