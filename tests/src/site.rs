//! Sites as zips.

use std::io::Write as _;

use anyhow::Result;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

/// A zip of these files.
pub fn zip<'f>(files: impl IntoIterator<Item = (&'f str, &'f [u8])>) -> Result<Vec<u8>> {
    let mut writer = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    for (path, content) in files {
        writer.start_file(path, options)?;
        writer.write_all(content)?;
    }
    Ok(writer.finish()?.into_inner())
}

/// The example's site, saying `version`, with as many files as asked for: pages, and images with hashed names.
pub fn hello(version: &str, files: usize) -> Result<Vec<u8>> {
    let page = |title: &str| {
        format!(
            "<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>\
             <link rel=stylesheet href=/assets/site-4f2a91c7.css><h1>{title}</h1><p>Version {version}.</p>\
             <nav><a href=/>Home</a> <a href=/about>About</a></nav></html>\n"
        )
    };
    let mut contents = vec![
        ("index.html".to_owned(), page("Hello")),
        ("about.html".to_owned(), page("About")),
        ("404.html".to_owned(), page("Not found")),
        ("robots.txt".to_owned(), "User-agent: *\nAllow: /\n".to_owned()),
        ("assets/site-4f2a91c7.css".to_owned(), "body { font-family: sans-serif; margin: 4rem }\n".to_owned()),
    ];
    for n in contents.len()..files {
        let name = format!("assets/image-{:08x}.svg", 0x5eed_0000 + n);
        let content =
            format!("<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 9 9'><circle r='{n}'/></svg>\n").repeat(40);
        contents.push((name, content));
    }
    zip(contents.iter().map(|(path, content)| (path.as_str(), content.as_bytes())))
}
