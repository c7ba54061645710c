//! Random passwords and keys, made once per stack.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use tempfile::NamedTempFile;

/// Bytes of a password: 192 bits, written as 48 hexadecimal digits that need no escaping anywhere.
const PASSWORD_BYTES: usize = 24;

/// The secrets of one stack, in a file that only its owner reads.
#[derive(Debug)]
pub struct Secrets {
    file: PathBuf,
    values: BTreeMap<String, String>,
}

impl Secrets {
    /// Reads the secrets of a stack's folder, or begins with none.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn load(folder: &Path) -> Result<Self> {
        let file = folder.join("secrets");
        let values = if file.exists() {
            let text = fs::read(&file)?;
            serde_json::from_slice(&text).with_context(|| format!("{} is damaged", file.display()))?
        } else {
            BTreeMap::new()
        };
        Ok(Self { file, values })
    }

    /// Whether nothing was made yet.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// A password.
    ///
    /// # Errors
    /// When it cannot be made or written.
    pub fn password(&mut self, name: &str) -> Result<String> {
        self.get_or_make(name, || Ok(hex(&random::<PASSWORD_BYTES>()?)))
    }

    /// 32 random bytes in base64: a master key, a page token key, or the seed of an Ed25519 key.
    ///
    /// # Errors
    /// When they cannot be made or written.
    pub fn key(&mut self, name: &str) -> Result<String> {
        self.get_or_make(name, || Ok(STANDARD.encode(random::<32>()?)))
    }

    fn get_or_make(&mut self, name: &str, make: impl FnOnce() -> Result<String>) -> Result<String> {
        if let Some(known) = self.values.get(name) {
            return Ok(known.clone());
        }
        let value = make()?;
        self.values.insert(name.to_owned(), value.clone());
        self.save()?;
        Ok(value)
    }

    fn save(&self) -> Result<()> {
        write_private(&self.file, &serde_json::to_vec_pretty(&self.values)?)
    }
}

/// Writes a file that only its owner reads (mode 600); it is there in full or not at all.
///
/// # Errors
/// When it cannot be written.
pub fn write_private(path: &Path, content: &[u8]) -> Result<()> {
    let folder = path.parent().context("a file lies in a folder")?;
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(content)?;
    file.persist(path)?;
    Ok(())
}

/// The public half (base64url without padding) of an Ed25519 seed (base64).
///
/// # Errors
/// When the seed is not 32 bytes of base64.
pub fn public_key(seed: &str) -> Result<String> {
    let seed = STANDARD.decode(seed).context("a seed is base64")?;
    ensure!(seed.len() == 32, "a seed has 32 bytes");
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).context("the seed gives no Ed25519 key")?;
    Ok(URL_SAFE_NO_PAD.encode(pair.public_key().as_ref()))
}

/// A short random word for names: 8 hexadecimal digits.
pub fn random_word() -> String {
    format!("{:08x}", random_number())
}

/// A number for places where a clash is harmless; passwords come from [`Secrets`].
pub(crate) fn random_number() -> u32 {
    u32::from_ne_bytes(random::<4>().unwrap_or_default())
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).context("the system gives no random bytes")?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn secrets_are_made_once_and_are_private() {
        let folder = tempfile::tempdir().unwrap();
        let first = Secrets::load(folder.path()).unwrap().password("redis").unwrap();
        let mut again = Secrets::load(folder.path()).unwrap();
        assert_eq!(again.password("redis").unwrap(), first);
        assert_ne!(again.password("rabbitmq").unwrap(), first);
        let mode = fs::metadata(folder.path().join("secrets"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_seed_gives_the_public_key_of_rfc_8032() {
        // RFC 8032, 7.1, test 1.
        let seed = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
        assert_eq!(public_key(seed).unwrap(), "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
        assert!(public_key("c2hvcnQ=").is_err());
    }
}
