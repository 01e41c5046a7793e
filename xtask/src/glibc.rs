//! Which versions of the C library a binary needs, read from its symbol versions (`.gnu.version_r`).

use std::path::Path;

use anyhow::{Context as _, bail};
use object::Endianness;
use object::elf::FileHeader64;
use object::read::elf::FileHeader as _;

/// Fails, naming binary and symbol, when a binary needs a newer C library than `newest`.
pub(crate) fn check(binary: &Path, newest: (u32, u32)) -> anyhow::Result<()> {
    let data = std::fs::read(binary).with_context(|| binary.display().to_string())?;
    let needed = needed(&data).with_context(|| format!("{} is no ELF binary", binary.display()))?;
    if let Some((symbol, (major, minor))) = needed.into_iter().find(|(_, version)| *version > newest) {
        bail!(
            "{} needs glibc {major}.{minor} for {symbol}; Amazon Linux 2023 has {}.{}",
            binary.display(),
            newest.0,
            newest.1
        );
    }
    Ok(())
}

/// Every imported symbol that has a version of the C library.
fn needed(data: &[u8]) -> anyhow::Result<Vec<(String, (u32, u32))>> {
    let header = FileHeader64::<Endianness>::parse(data)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, data)?;
    let Some(versions) = sections.versions(endian, data)? else {
        // A static binary needs none.
        return Ok(Vec::new());
    };
    let symbols = sections.symbols(endian, data, object::elf::SHT_DYNSYM)?;
    let mut needed = Vec::new();
    for (index, symbol) in symbols.enumerate() {
        let version = versions.version(versions.version_index(endian, index).into())?;
        let Some(version) = version.map(|version| String::from_utf8_lossy(version.name()).into_owned()) else {
            continue;
        };
        if let Some(version) = parse(&version) {
            let name = String::from_utf8_lossy(symbols.symbol_name(endian, symbol)?).into_owned();
            needed.push((name, version));
        }
    }
    needed.sort_by_key(|(_, version)| std::cmp::Reverse(*version));
    Ok(needed)
}

/// `GLIBC_2.34` → (2, 34). `GLIBC_PRIVATE` and other libraries' versions are none.
fn parse(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.strip_prefix("GLIBC_")?.split('.');
    let (major, minor) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some((major, minor))
}

#[cfg(test)]
mod tests {
    use super::{check, needed, parse};

    #[test]
    fn versions_are_numbers() {
        assert_eq!(parse("GLIBC_2.2.5"), Some((2, 2)));
        assert_eq!(parse("GLIBC_2.34"), Some((2, 34)));
        assert!(parse("GLIBC_2.9") < parse("GLIBC_2.34"));
        assert_eq!((parse("GLIBC_PRIVATE"), parse("GCC_3.0")), (None, None));
    }

    /// This test is itself a binary that needs the C library.
    #[test]
    fn a_binary_that_needs_more_is_named_with_the_symbol() {
        let binary = std::env::current_exe().unwrap();
        let needed = needed(&std::fs::read(&binary).unwrap()).unwrap();
        let (symbol, newest) = needed.first().unwrap().clone();
        check(&binary, newest).unwrap();
        let error = check(&binary, (2, 2)).unwrap_err().to_string();
        assert!(error.contains(&symbol) && error.contains(binary.to_str().unwrap()), "{error}");
    }
}
