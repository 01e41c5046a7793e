//! From a folder to a zip: the same files make the same bytes, whoever packs them, wherever and whenever.
//!
//! So the names are sorted, every file has the same time and the same permissions, and there are no entries for folders.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use shipway_domain::site::MAX_BYTES;
use zip::{CompressionMethod, DateTime, ZipWriter, write::SimpleFileOptions};

use crate::problem::Problem;

/// What systems and tools leave in folders, and nobody means to publish.
const CLUTTER: [&str; 7] = [".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX", ".git", ".svn", ".hg"];

/// A folder, packed.
pub(crate) struct Packed {
    /// The zip, from its beginning. It is gone when it is dropped.
    pub(crate) file: File,
    /// The names of files and folders that were left out.
    pub(crate) left_out: Vec<String>,
}

/// One file to pack.
struct Source {
    name: String,
    path: PathBuf,
    size: u64,
}

/// Packs a folder. `packed` hears how many bytes of how many are done.
///
/// # Errors
/// What is in it that cannot be published: a link, a device, a name that is not UTF-8; or what cannot be read.
pub(crate) fn pack(folder: &Path, packed: impl Fn(u64, u64)) -> Result<Packed, Problem> {
    let mut sources = Vec::new();
    let mut left_out = Vec::new();
    collect(folder, "", &mut sources, &mut left_out)?;
    sources.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let total: u64 = sources.iter().map(|source| source.size).sum();
    if total > MAX_BYTES {
        return Err(Problem::rejected(format!(
            "the files are {total} bytes together; at most {MAX_BYTES} are published"
        ))
        .at(folder.display())
        .remedy("leave out what the site does not need, or serve large files from a bucket of their own"));
    }
    let file = tempfile::tempfile().map_err(|error| {
        Problem::new(format!("a temporary file for the zip cannot be made: {error}"))
            .at(std::env::temp_dir().display())
            .remedy("make room there, or name another folder with TMPDIR")
    })?;
    let file = write(file, &sources, |done| packed(done, total))?;
    Ok(Packed { file, left_out })
}

fn collect(folder: &Path, under: &str, sources: &mut Vec<Source>, left_out: &mut Vec<String>) -> Result<(), Problem> {
    let unreadable =
        |path: &Path, error: &io::Error| Problem::new(format!("this cannot be read: {error}")).at(path.display());
    for entry in fs::read_dir(folder).map_err(|error| unreadable(folder, &error))? {
        let entry = entry.map_err(|error| unreadable(folder, &error))?;
        let path = entry.path();
        let Ok(name) = entry.file_name().into_string() else {
            return Err(Problem::rejected("this has a name that is not UTF-8").at(path.display()).remedy("rename it"));
        };
        let name_in_zip = format!("{under}{name}");
        if CLUTTER.contains(&name.as_str()) || name.starts_with("._") {
            left_out.push(name_in_zip);
            continue;
        }
        let metadata = fs::symlink_metadata(&path).map_err(|error| unreadable(&path, &error))?;
        let kind = metadata.file_type();
        if kind.is_symlink() {
            return Err(Problem::rejected("this is a symbolic link, and links are not published")
                .at(path.display())
                .remedy("put the file itself there"));
        } else if kind.is_dir() {
            collect(&path, &format!("{name_in_zip}/"), sources, left_out)?;
        } else if kind.is_file() {
            sources.push(Source { name: name_in_zip, path, size: metadata.len() });
        } else {
            return Err(Problem::rejected("this is neither a file nor a folder")
                .at(path.display())
                .remedy("remove it"));
        }
    }
    Ok(())
}

fn write(file: File, sources: &[Source], packed: impl Fn(u64)) -> Result<File, Problem> {
    let unwritable = |error: &dyn std::fmt::Display| {
        Problem::new(format!("the zip cannot be written: {error}"))
            .at(std::env::temp_dir().display())
            .remedy("make room there, or name another folder with TMPDIR")
    };
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .compression_level(Some(6))
        .last_modified_time(DateTime::default())
        .unix_permissions(0o644);
    let mut writer = ZipWriter::new(BufWriter::with_capacity(1 << 20, file));
    let mut buffer = vec![0; 256 << 10];
    let mut done = 0;
    for source in sources {
        // Beyond these sizes a file needs the fields of zip64, and must say so before it is written.
        let options = options.large_file(source.size > u64::from(u32::MAX) / 2);
        writer.start_file(source.name.as_str(), options).map_err(|error| unwritable(&error))?;
        let unreadable =
            |error: io::Error| Problem::new(format!("this cannot be read: {error}")).at(source.path.display());
        let mut from = File::open(&source.path).map_err(unreadable)?;
        loop {
            let length = io::Read::read(&mut from, &mut buffer).map_err(unreadable)?;
            if length == 0 {
                break;
            }
            writer.write_all(&buffer[..length]).map_err(|error| unwritable(&error))?;
            done += length as u64;
            packed(done);
        }
    }
    let buffered = writer.finish().map_err(|error| unwritable(&error))?;
    let mut file = buffered.into_inner().map_err(|error| unwritable(&error))?;
    file.rewind().map_err(|error| unwritable(&error))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, time::SystemTime};

    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        folder
    }

    fn bytes(folder: &Path) -> Vec<u8> {
        let mut bytes = Vec::new();
        pack(folder, |_, _| {}).map_err(|problem| problem.to_string()).unwrap().file.read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn names<R: io::Read + io::Seek>(archive: &zip::ZipArchive<R>) -> Vec<String> {
        archive.file_names().map(|name| name.unwrap().into_owned()).collect()
    }

    fn refused(folder: &Path) -> Problem {
        pack(folder, |_, _| {}).err().unwrap()
    }

    #[test]
    fn the_same_files_make_the_same_zip() {
        let one = folder(&[("index.html", "home"), ("a/b.css", "b"), ("a.js", "a")]);
        let other = folder(&[("a.js", "a"), ("a/b.css", "b"), ("index.html", "home")]);
        fs::create_dir(other.path().join("empty")).unwrap();
        fs::write(other.path().join("a/.DS_Store"), "x").unwrap();
        let file = File::options().write(true).open(other.path().join("index.html")).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(other.path().join("a.js"), fs::Permissions::from_mode(0o755)).unwrap();
        }
        assert_eq!(bytes(one.path()), bytes(other.path()));
        fs::write(one.path().join("a.js"), "A").unwrap();
        assert_ne!(bytes(one.path()), bytes(other.path()));
    }

    #[test]
    fn files_are_sorted_by_their_whole_names() {
        let folder = folder(&[("b/a", ""), ("b.a", ""), ("b-a", ""), ("a", ""), ("B", "")]);
        let archive = zip::ZipArchive::new(std::io::Cursor::new(bytes(folder.path()))).unwrap();
        assert_eq!(names(&archive), ["B", "a", "b-a", "b.a", "b/a"]);
    }

    #[test]
    fn clutter_is_left_out_and_said_and_hidden_files_that_belong_are_not() {
        let folder = folder(&[
            ("index.html", "home"),
            (".well-known/security.txt", "x"),
            (".nojekyll", ""),
            (".DS_Store", "x"),
            ("a/._b.css", "x"),
            ("a/Thumbs.db", "x"),
            (".git/HEAD", "x"),
        ]);
        let mut packed = pack(folder.path(), |_, _| {}).unwrap_or_else(|problem| panic!("{problem}"));
        packed.left_out.sort_unstable();
        assert_eq!(packed.left_out, [".DS_Store", ".git", "a/._b.css", "a/Thumbs.db"]);
        let archive = zip::ZipArchive::new(packed.file).unwrap();
        assert_eq!(names(&archive), [".nojekyll", ".well-known/security.txt", "index.html"]);
    }

    #[cfg(unix)]
    #[test]
    fn links_and_sockets_are_refused_with_their_path() {
        let linked = folder(&[("index.html", "home")]);
        std::os::unix::fs::symlink("/etc/passwd", linked.path().join("passwd")).unwrap();
        let problem = refused(linked.path()).to_string();
        assert!(problem.contains("symbolic link") && problem.contains("/passwd"), "{problem}");

        let socket = folder(&[("index.html", "home")]);
        let _listener = std::os::unix::net::UnixListener::bind(socket.path().join("socket")).unwrap();
        assert!(refused(socket.path()).to_string().contains("neither a file nor a folder"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_name_that_is_not_utf_8_is_refused() {
        use std::os::unix::ffi::OsStrExt as _;
        let folder = folder(&[("index.html", "home")]);
        fs::write(folder.path().join(std::ffi::OsStr::from_bytes(b"\xff.txt")), "x").unwrap();
        assert!(refused(folder.path()).to_string().contains("not UTF-8"));
    }
}
