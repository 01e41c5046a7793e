//! The sites that are published: made by a generator that makes the same files each time.

use std::io::{Cursor, Write};
use std::path::Path;

use anyhow::Result;
use bytes::Bytes;
use zip::{CompressionMethod, DateTime, ZipWriter, write::SimpleFileOptions};

/// The site of rows 3 and 4.
const FILES: usize = 1000;
const BYTES: usize = 25_000_000;

/// One file.
#[derive(Clone)]
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) content: Bytes,
    is_changed: bool,
}

/// A build of a site.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) files: Vec<File>,
}

/// splitmix64, so that the same files come out everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Bytes that cannot be packed, like those of an image.
    fn noise(&mut self, size: usize) -> Bytes {
        let mut bytes: Vec<u8> =
            std::iter::repeat_with(|| self.roll().to_le_bytes()).take(size / 8 + 1).flatten().collect();
        bytes.truncate(size);
        bytes.into()
    }

    /// Text that packs to about a third, like pages and scripts.
    fn prose(&mut self, size: usize) -> Bytes {
        let mut text = Vec::with_capacity(size + 24);
        while text.len() < size {
            // Some words are used much more often than others.
            let most = 1 << (self.roll() % 14);
            let word = Dice(self.roll() % most).roll();
            let length = 2 + (word % 9) as usize;
            text.extend(word.to_le_bytes().iter().cycle().take(length).map(|byte| b'a' + byte % 26));
            text.extend(if word.is_multiple_of(5) { &b"</p>\n<p class=\"x\">"[..] } else { b" " });
        }
        text.truncate(size);
        text.into()
    }

    /// As a name that a bundler makes of a content.
    fn hash(&mut self) -> String {
        format!("{:016x}", self.roll())
    }
}

impl Site {
    /// A thousand files, 25 MB: the export of a Next site with its pages, their data, its scripts and its images.
    pub(crate) fn realistic() -> Site {
        let dice = &mut Dice(5);
        let mut plan: Vec<(String, f64)> = Vec::new();
        // (how many, the least and the most KB, the name)
        let mut kind = |count: usize, least: u64, most: u64, name: &dyn Fn(usize, String) -> String| {
            for number in 0..count {
                // Most are small, few are large.
                let share = (dice.roll() % 1000) as f64 / 1000.0;
                let size = least as f64 + (most - least) as f64 * share * share;
                plan.push((name(number, dice.hash()), size * 1000.0));
            }
        };
        kind(1, 20, 40, &|_, _| "index.html".to_owned());
        kind(1, 4, 8, &|_, _| "404.html".to_owned());
        kind(80, 8, 40, &|number, _| format!("docs/topic-{number}.html"));
        kind(180, 8, 40, &|number, _| format!("blog/2026/post-{number}.html"));
        kind(38, 8, 60, &|number, _| format!("shop/{}/item-{number}.html", ["shoes", "hats"][number % 2]));
        kind(260, 1, 12, &|number, _| format!("blog/2026/post-{number}.json"));
        kind(220, 2, 140, &|_, hash| format!("_next/static/chunks/{}-{hash}.js", &hash[..4]));
        kind(20, 4, 60, &|_, hash| format!("_next/static/css/{hash}.css"));
        kind(180, 10, 200, &|number, _| format!("images/photo-{number}.webp"));
        kind(16, 1, 12, &|number, _| format!("icons/icon-{number}.svg"));
        kind(4, 15, 60, &|number, _| format!("fonts/face-{number}.woff2"));
        assert_eq!(plan.len(), FILES);
        let scale = BYTES as f64 / plan.iter().map(|(_, size)| size).sum::<f64>();
        let mut left = BYTES;
        let last = plan.len() - 1;
        let files = plan.into_iter().enumerate().map(|(index, (path, size))| {
            let size = if index == last { left } else { (size * scale) as usize };
            left -= size;
            let is_packed = path.ends_with(".webp") || path.ends_with(".woff2");
            let content = if is_packed { dice.noise(size) } else { dice.prose(size) };
            File { path, content, is_changed: false }
        });
        Site { files: files.collect() }
    }

    /// Half a gigabyte in the zip: a film, photos by the thousand, a few large texts.
    pub(crate) fn large() -> Site {
        let dice = &mut Dice(500);
        let file = |path: String, content: Bytes| File { path, content, is_changed: false };
        let mut files = vec![file("index.html".to_owned(), dice.prose(20_000))];
        files.push(file("film.mp4".to_owned(), dice.noise(150_000_000)));
        files.extend((0..3_050).map(|number| file(format!("photos/{number}.webp"), dice.noise(100_000))));
        files.extend((0..12).map(|number| file(format!("data/{number}.csv"), dice.prose(20_000_000))));
        Site { files }
    }

    /// The next build, in which so many files are others under the same names. Those named by their content are not.
    pub(crate) fn changed(&self, count: usize) -> Site {
        let mut site = self.clone();
        let changeable: Vec<usize> =
            (0..site.files.len()).filter(|index| !site.files[*index].path.starts_with("_next/")).collect();
        for step in 0..count {
            let file = &mut site.files[changeable[step * changeable.len() / count]];
            let mut content = file.content.to_vec();
            content.iter_mut().take(64).for_each(|byte| *byte ^= 1);
            *file = File { path: file.path.clone(), content: content.into(), is_changed: true };
        }
        site
    }

    /// The files that are others than in the build before.
    pub(crate) fn changes(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.is_changed)
    }

    /// The bytes of all files.
    pub(crate) fn bytes(&self) -> usize {
        self.files.iter().map(|file| file.content.len()).sum()
    }

    /// The zip of the build. What changed is newer than any upload, everything else older: some of the publishers go by that.
    pub(crate) fn zip(&self) -> Result<Bytes> {
        let date = |year| DateTime::from_date_and_time(year, 1, 1, 0, 0, 0);
        let (old, new) = (date(2020)?, date(2090)?);
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for file in &self.files {
            let options = SimpleFileOptions::default()
                .compression_method(CompressionMethod::Deflated)
                .last_modified_time(if file.is_changed { new } else { old });
            zip.start_file(&file.path, options)?;
            zip.write_all(&file.content)?;
        }
        Ok(zip.finish()?.into_inner().into())
    }

    /// Writes the files into a directory.
    pub(crate) fn write(&self, directory: &Path) -> Result<()> {
        for file in &self.files {
            let path = directory.join(&file.path);
            std::fs::create_dir_all(path.parent().unwrap_or(directory))?;
            std::fs::write(path, &file.content)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{BYTES, FILES, Site};

    #[test]
    fn a_site_is_the_same_each_time_and_as_large_as_it_should_be() {
        let (site, again) = (Site::realistic(), Site::realistic());
        assert_eq!((site.files.len(), site.bytes()), (FILES, BYTES));
        assert!(site.files.iter().zip(&again.files).all(|(a, b)| (&a.path, &a.content) == (&b.path, &b.content)));
    }

    #[test]
    fn as_many_files_change_as_are_asked_for() {
        let site = Site::realistic();
        for count in [0, 3, 50] {
            let changed = site.changed(count);
            let differ = site.files.iter().zip(&changed.files).filter(|(a, b)| a.content != b.content).count();
            assert_eq!((differ, changed.changes().count()), (count, count));
        }
    }
}
