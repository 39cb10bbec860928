//! `theca image inspect`.

use serde_json::{Value, json};
use theca_image::{Image, Reference, Store};

use crate::container::Roots;
use crate::error::FAILED;
use crate::output::{self, Template, time};

/// Flags of `image inspect`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// json, or a template such as '{{.Config.Cmd}}'
    #[arg(short, long, default_value = "json")]
    format: String,
    /// The images' names or ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<u8> {
    let store = Store::open(Roots::from_env().data())?;
    let (mut all, mut code) = (Vec::new(), 0);
    for name in &args.images {
        match store.resolve(name) {
            Ok(image) => all.push(describe(&image)?),
            Err(error) => {
                output::warn(&format!("{:#}", anyhow::Error::from(error)));
                code = FAILED;
            }
        }
    }
    if args.format == "json" {
        output::line(&serde_json::to_string_pretty(&all)?)?;
        return Ok(code);
    }
    let template = Template::parse(&args.format)?;
    for value in &all {
        output::line(&template.render(value)?)?;
    }
    Ok(code)
}

fn describe(image: &Image) -> anyhow::Result<Value> {
    let familiar = |names: &[Reference]| names.iter().map(Reference::familiar).collect::<Vec<_>>();
    let configuration = serde_json::to_value(&image.configuration)?;
    Ok(json!({
        "Id": image.id.to_string(),
        "RepoTags": familiar(&image.names),
        "RepoDigests": familiar(&image.digests),
        "Digest": image.manifest.map(|digest| digest.to_string()),
        "Imported": time::rfc3339(image.imported * 1000),
        "Created": configuration["created"],
        "Architecture": configuration["architecture"],
        "Os": configuration["os"],
        "Size": image.size,
        "Disk": image.erofs,
        "Config": configuration["config"],
        "RootFS": {"Type": "layers", "Layers": configuration["rootfs"]["diff_ids"]},
        "History": configuration["history"],
    }))
}
