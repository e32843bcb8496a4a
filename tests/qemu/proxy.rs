//! Stands between afterimage and a monitor, and breaks the connection, or holds a command back.

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection breaks when so many commands have come; the last one is not carried out.
    CutBefore(usize),
    /// As that, but it is carried out, and its answer is lost.
    CutAfter(usize),
    /// This command never gets through.
    Hold(&'static str),
}

pub struct Proxy {
    pub path: PathBuf,
    /// Commands that came, over all connections.
    pub commands: Arc<AtomicUsize>,
    pub seen: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Serves connections one after another. Only the first has the fault; `then_refuse`: it is
    /// also the last one, as if the machine had gone.
    pub fn start(folder: &Path, to: &Path, fault: Fault, then_refuse: bool) -> Self {
        let path = folder.join("proxy.sock");
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let (commands, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let proxy = Self { path: path.clone(), commands, seen };
        let (commands, seen) = (Arc::clone(&proxy.commands), Arc::clone(&proxy.seen));
        let to = to.to_owned();
        std::thread::spawn(move || {
            let mut fault = Some(fault);
            loop {
                let Ok((client, _)) = listener.accept() else { return };
                let Ok(server) = UnixStream::connect(&to) else { return };
                let (mut back, mut answers) =
                    (client.try_clone().unwrap(), server.try_clone().unwrap());
                let down = std::thread::spawn(move || {
                    let mut piece = [0; 65536];
                    while let Ok(read @ 1..) = answers.read(&mut piece) {
                        if back.write_all(&piece[..read]).is_err() {
                            break;
                        }
                    }
                    let _ = back.shutdown(Shutdown::Both);
                });
                let was_cut = forward(&client, &server, fault.take(), (&commands, &seen));
                let _ = client.shutdown(Shutdown::Both);
                let _ = server.shutdown(Shutdown::Both);
                down.join().unwrap();
                if was_cut && then_refuse {
                    let _ = std::fs::remove_file(&path);
                    return;
                }
            }
        });
        proxy
    }
}

/// Gives requests on, with the descriptors that come with them. Whether it was cut.
fn forward(
    client: &UnixStream,
    server: &UnixStream,
    fault: Option<Fault>,
    (commands, seen): (&AtomicUsize, &Mutex<Vec<String>>),
) -> bool {
    let mut count = 0;
    while let Some((bytes, descriptors)) = receive(client) {
        // Requests are short, and each is sent at once.
        let request: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let command = request["execute"].as_str().unwrap().to_owned();
        count += 1;
        commands.fetch_add(1, Ordering::Relaxed);
        seen.lock().unwrap().push(command.clone());
        match fault {
            Some(Fault::CutBefore(at)) if at == count => return true,
            Some(Fault::Hold(held)) if held == command => continue,
            _ => {}
        }
        if !send(server, &bytes, &descriptors) {
            return false;
        }
        if fault == Some(Fault::CutAfter(count)) {
            // Long enough for QEMU to carry it out.
            std::thread::sleep(std::time::Duration::from_millis(100));
            return true;
        }
    }
    false
}

/// The next request; `None` when the client is gone.
fn receive(client: &UnixStream) -> Option<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0; 1 << 20];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let pieces = &mut [IoSliceMut::new(&mut bytes)];
    let received = recvmsg(client, pieces, &mut control, RecvFlags::CMSG_CLOEXEC).ok()?;
    let rights = |message| match message {
        RecvAncillaryMessage::ScmRights(rights) => Some(rights),
        _ => None,
    };
    let descriptors = control.drain().filter_map(rights).flatten().collect();
    bytes.truncate(received.bytes);
    (!bytes.is_empty()).then_some((bytes, descriptors))
}

fn send(server: &UnixStream, bytes: &[u8], descriptors: &[OwnedFd]) -> bool {
    let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !borrowed.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(&borrowed)));
    }
    sendmsg(server, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL).is_ok()
}
