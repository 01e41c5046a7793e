//! `shipway releases`: what was released, and how it went.

use jiff::Timestamp;
use shipway_domain::release::{Artifact, ReleaseRecord};

use crate::{
    cli::Releases,
    exit::Exit,
    follow::{Told, took},
    installation::Installation,
    place::Place,
    problem::Problem,
    screen::{self, Screen},
    table::{Cell, laid_out},
};

/// Lists releases.
pub(crate) async fn run(asked: &Releases, installation: &Installation, screen: &Screen) -> Result<Exit, Problem> {
    let place = asked.place.place()?;
    let Place { app, environment } = &place;
    let store = installation.store().await?;
    let releases = store.newest_releases(app, environment, asked.component.as_ref(), usize::from(asked.limit)).await?;
    let now = Timestamp::now();
    if releases.is_empty() {
        screen.line(match &asked.component {
            Some(component) => format!("{component} of {place} has had no release yet"),
            None => format!("{place} has had no release yet"),
        });
    } else {
        let rows: Vec<_> = releases.iter().map(|release| row(release, now)).collect();
        let headings = ["RELEASE", "COMPONENT", "ARTIFACT", "GROUP", "OUTCOME", "TOOK", "REASON"];
        for line in laid_out(headings, &rows, screen.width()) {
            screen.line(line);
        }
    }
    screen.document(&releases.iter().map(|release| Told::new(release, None, now)).collect::<Vec<_>>());
    Ok(Exit::Done)
}

fn row(release: &ReleaseRecord, now: Timestamp) -> [Cell; 7] {
    [
        Cell::plain(&release.release),
        Cell::plain(&release.component),
        Cell::plain(short(&release.artifact)),
        Cell::plain(release.group.as_deref().unwrap_or_default()),
        Cell { text: screen::word(release).to_owned(), shown: screen::told(release) },
        Cell::plain(screen::duration(took(release, now))),
        Cell::plain(release.reason.as_deref().unwrap_or_default().replace('\n', " ")),
    ]
}

/// An artifact without what the component tells already.
fn short(artifact: &Artifact) -> String {
    match artifact {
        Artifact::Image { .. } | Artifact::Public { .. } | Artifact::Nothing => artifact.to_string(),
        Artifact::Object { key, version } => {
            let file = key.rsplit('/').next().unwrap_or(key);
            format!("{file} ({})", version.chars().take(8).collect::<String>())
        }
    }
}

#[cfg(test)]
mod tests {
    use shipway_domain::{approval::Asked, release::Outcome};

    use super::*;
    use crate::follow::tests::{at, release, zip};

    #[test]
    fn a_release_is_a_row() {
        let text = |outcome| row(&release(5, zip("3sL4kqtJlcpXro"), outcome), at(40)).map(|cell| cell.text);
        let ended = text(Some(Outcome::Succeeded));
        assert_eq!(
            ended[1..],
            ["site/web", "x.zip (3sL4kqtJ)", "", "succeeded", "7.0 s", "3 of 20 files were written"]
        );
        assert_eq!(text(None)[4..], ["under way", "35 s", ""]);
        let mut waits = release(5, zip("a"), None);
        waits.approval = Some(Asked::new("token".to_owned(), 60, at(5)));
        assert_eq!(row(&waits, at(40))[4].text, "needs approval");
    }
}
