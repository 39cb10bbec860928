//! `theca image ls`.

use serde_json::{Value, json};
use theca_image::{Image, Reference, Store};

use crate::container::Roots;
use crate::output::listing::{self, Format};
use crate::output::{self, Table, size, time};

/// Flags of `image ls`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only ids
    #[arg(short, long)]
    quiet: bool,
    /// Do not shorten ids
    #[arg(long)]
    no_trunc: bool,
    /// Taken as docker takes it: every image is shown anyway
    #[arg(short, long, hide = true)]
    all: bool,
    /// table, json or a template such as '{{.Repository}}:{{.Tag}}'
    #[arg(long, default_value = "table")]
    format: String,
    /// Only images of this name, with or without a tag
    name: Option<String>,
}

/// One line: an image has as many as it has names.
struct Row<'a> {
    image: &'a Image,
    repository: String,
    tag: String,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<u8> {
    let images = Store::open(Roots::from_env().data())?.list()?;
    let mut rows: Vec<Row> = images.iter().flat_map(rows).collect();
    if let Some(name) = &args.name {
        rows.retain(|row| row.repository == *name || format!("{}:{}", row.repository, row.tag) == *name);
    }
    let id = |image: &Image| if args.no_trunc { image.id.to_string() } else { image.short_id() };
    if args.quiet {
        let mut ids: Vec<String> = rows.iter().map(|row| id(row.image)).collect();
        ids.dedup();
        ids.iter().try_for_each(|id| output::line(id))?;
        return Ok(0);
    }
    let now = time::now_ms();
    let entries: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "ID": id(row.image),
                "Repository": row.repository,
                "Tag": row.tag,
                "Digest": row.image.manifest.map(|digest| digest.to_string()),
                "CreatedAt": time::rfc3339(row.image.imported * 1000),
                "CreatedSince": time::ago(row.image.imported * 1000, now),
                "Size": size::human(row.image.size),
                "SizeBytes": row.image.size,
            })
        })
        .collect();
    listing::print(&args.format.parse::<Format>()?, &entries, || {
        let mut table = Table::new(&["REPOSITORY", "TAG", "IMAGE ID", "IMPORTED", "SIZE"]);
        for row in &rows {
            let imported = time::ago(row.image.imported * 1000, now);
            table.row([
                row.repository.clone(),
                row.tag.clone(),
                id(row.image),
                imported,
                size::human(row.image.size),
            ]);
        }
        table
    })?;
    Ok(0)
}

fn rows(image: &Image) -> Vec<Row<'_>> {
    let row = |name: &Reference| {
        let familiar = name.familiar();
        let tag = name.tag().unwrap_or("<none>").to_owned();
        let repository = familiar.strip_suffix(&format!(":{tag}")).unwrap_or(&familiar).to_owned();
        Row { image, repository, tag }
    };
    if image.names.is_empty() {
        return vec![Row { image, repository: "<none>".into(), tag: "<none>".into() }];
    }
    image.names.iter().map(row).collect()
}
