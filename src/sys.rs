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
