//! Ports that nobody else takes.
//!
//! A port is reserved by an exclusive lock on a file named after it, so that processes that look for ports at the same
//! moment do not find the same one, and by a trial bind, so that a server that knows nothing of us is left in peace.
//! Ports come from outside the kernel's ephemeral range: from inside it, an outgoing connection of anybody may take a
//! port between the trial and the real bind.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A port that is ours while this value lives.
#[derive(Debug)]
pub struct Reservation {
    port: u16,
    _lock: File,
}

impl Reservation {
    /// The port's number.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// Reserves some free port.
///
/// # Errors
/// When there is none.
pub fn reserve() -> Result<Reservation> {
    let range = candidates(&ephemeral_range());
    let width = u32::from(range.end() - range.start()) + 1;
    // Starting at a place of its own keeps parallel processes from walking over each other's locks.
    let offset = crate::secrets::random_number() % width;
    let order = (0..width).map(|step| (offset + step) % width);
    for port in order.filter_map(|place| u16::try_from(u32::from(*range.start()) + place).ok()) {
        if let Some(reservation) = try_reserve(port)? {
            return Ok(reservation);
        }
    }
    anyhow::bail!("no free port between {} and {}", range.start(), range.end())
}

/// Reserves one port; `None` where it is taken.
///
/// # Errors
/// When the folder of the locks cannot be made.
pub fn try_reserve(port: u16) -> Result<Option<Reservation>> {
    let folder = lock_folder()?;
    let lock = match open_lock(&folder.join(port.to_string())) {
        Ok(lock) => lock,
        // Another account's file that we may not open: its port is as good as taken.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(None),
        Err(error) => return Err(error).context("cannot open the lock of a port"),
    };
    if lock.try_lock().is_err() || TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err() {
        return Ok(None);
    }
    Ok(Some(Reservation { port, _lock: lock }))
}

fn lock_folder() -> Result<PathBuf> {
    let folder = std::env::temp_dir().join("rowhouse-ports");
    if !folder.is_dir() {
        fs::create_dir_all(&folder)?;
        // Shared by all accounts of the machine, like /tmp itself.
        fs::set_permissions(&folder, Permissions::from_mode(0o1777))?;
    }
    Ok(folder)
}

fn open_lock(path: &Path) -> io::Result<File> {
    // In a sticky folder the kernel refuses O_CREAT on another account's file (fs.protected_regular), so open comes
    // first.
    match OpenOptions::new().read(true).open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        other => return other,
    }
    match OpenOptions::new().read(true).write(true).create_new(true).open(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => OpenOptions::new().read(true).open(path),
        other => other,
    }
}

fn ephemeral_range() -> RangeInclusive<u16> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_whitespace().filter_map(|word| word.parse().ok());
    // Linux's default.
    numbers.next().unwrap_or(32768)..=numbers.next().unwrap_or(60999)
}

/// Below the ephemeral range, or above it where the administrator widened it downwards.
fn candidates(ephemeral: &RangeInclusive<u16>) -> RangeInclusive<u16> {
    let (low, high) = (*ephemeral.start(), *ephemeral.end());
    if low > 21000 {
        20000..=low - 1
    } else if high < 65000 {
        high + 1..=65535
    } else {
        // Nearly everything is ephemeral: what most servers' fixed ports lie in is the least evil.
        5000..=low.max(9000)
    }
}

/// The ports of a stack by name, remembered so that they stay the same from one start to the next.
#[derive(Debug)]
pub struct Ports {
    file: PathBuf,
    numbers: BTreeMap<String, u16>,
    reservations: Vec<Reservation>,
}

impl Ports {
    /// Reads what is remembered in a stack's folder.
    pub fn load(folder: &Path) -> Self {
        let file = folder.join("ports");
        let text = fs::read(&file).unwrap_or_default();
        // A file torn by a crash is as good as none: ports are chosen anew.
        let numbers = serde_json::from_slice(&text).unwrap_or_default();
        Self {
            file,
            numbers,
            reservations: Vec::new(),
        }
    }

    /// The remembered port, for a process that runs on it.
    pub fn remembered(&self, name: &str) -> Option<u16> {
        self.numbers.get(name).copied()
    }

    /// A port for a process that is about to start: the remembered one where it is still free. Held until this value
    /// is dropped.
    ///
    /// # Errors
    /// When no port is free or the choice cannot be written down.
    pub fn assign(&mut self, name: &str) -> Result<u16> {
        if let Some(held) = self
            .reservations
            .iter()
            .find(|held| Some(held.port) == self.remembered(name))
        {
            return Ok(held.port);
        }
        let remembered = self.remembered(name).map(try_reserve).transpose()?.flatten();
        let reservation = remembered.map_or_else(reserve, Ok)?;
        let port = reservation.port();
        self.reservations.push(reservation);
        if self.numbers.insert(name.to_owned(), port) != Some(port) {
            fs::write(&self.file, serde_json::to_vec_pretty(&self.numbers)?)?;
        }
        Ok(port)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::thread;

    use super::*;

    #[test]
    fn a_reserved_port_is_not_given_out_twice() {
        let first = reserve().unwrap();
        assert!(try_reserve(first.port()).unwrap().is_none());
        let port = first.port();
        drop(first);
        assert!(try_reserve(port).unwrap().is_some());
    }

    #[test]
    fn parallel_reservations_differ() {
        let threads: Vec<_> = (0..8)
            .map(|_| thread::spawn(|| (0..8).map(|_| reserve().unwrap()).collect()))
            .collect();
        let held: Vec<Reservation> = threads
            .into_iter()
            .flat_map(|thread| -> Vec<Reservation> { thread.join().unwrap() })
            .collect();
        let ports: HashSet<u16> = held.iter().map(Reservation::port).collect();
        assert_eq!(ports.len(), 64);
    }

    #[test]
    fn a_port_with_a_foreign_server_on_it_is_left_alone() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(try_reserve(server.local_addr().unwrap().port()).unwrap().is_none());
    }

    #[test]
    fn ports_come_from_outside_the_ephemeral_range() {
        for (ephemeral, expected) in [(32768..=60999, 20000..=32767), (1024..=60999, 61000..=65535)] {
            assert_eq!(candidates(&ephemeral), expected);
        }
        assert!(!ephemeral_range().contains(&reserve().unwrap().port()));
    }

    #[test]
    fn a_stack_keeps_its_ports() {
        let folder = tempfile::tempdir().unwrap();
        let first = Ports::load(folder.path()).assign("postgres").unwrap();
        let mut again = Ports::load(folder.path());
        assert_eq!(again.remembered("postgres"), Some(first));
        assert_eq!(again.assign("postgres").unwrap(), first);
        assert_eq!(again.assign("postgres").unwrap(), first);
    }
}
