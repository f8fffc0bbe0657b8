//! `vipctl iam-policy`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use vipd::config::Config;
use vipd::config::iam::Whereabouts;
use vipd::proto::IamPolicies;

use crate::client::Client;
use crate::error::{Error, Kind};
use crate::{Global, render};

/// Print the least AWS policy for this configuration, as JSON
///
/// It is asked of a member, which knows its region, account and ENIs; with --config it is made of a file, and what
/// neither the file nor an option says becomes a `*`. EC2 can limit ReplaceRoute to route tables, by ARN or by tag,
/// not to one route of a table: whoever has the role can change any route of those tables. There is never a
/// DeleteRoute in it. With aws.assume_role_arn there are two roles: an object with both policies is printed, or
/// with --role the one.
#[derive(Args)]
#[command(after_help = "\
Examples:
  vipctl iam-policy > policy.json
  vipctl iam-policy --config vipd.toml --region eu-west-1 --account 123456789012
  aws iam put-role-policy --role-name vipd --policy-name vipd --policy-document file://policy.json")]
pub struct Arguments {
    /// Make it of this file, and ask no member
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The region of the route tables, where the file does not name it
    #[arg(long, requires = "config")]
    region: Option<String>,
    /// The account of the route tables
    #[arg(long, value_name = "ID", requires = "config")]
    account: Option<String>,
    /// The one policy of this role
    #[arg(long, value_enum)]
    role: Option<Role>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    /// That of the members' instances
    Instance,
    /// aws.assume_role_arn
    Routes,
}

pub async fn run(global: &Global, arguments: Arguments) -> Result<ExitCode, Error> {
    let policies = match &arguments.config {
        Some(_) => of_file(&arguments)?,
        None => {
            let client = Client::new(global)?;
            let deadline = client.deadline();
            client.connect(deadline).await?.iam_policies(deadline).await?
        }
    };
    let text = match (arguments.role, policies.routes) {
        (Some(Role::Routes), None) => {
            let cause = "aws.assume_role_arn is not set: there is one role only";
            return Err(Error::new(Kind::Refused, cause, "leave --role away"));
        }
        (Some(Role::Routes), Some(routes)) => routes,
        (Some(Role::Instance), _) | (None, None) => policies.instance,
        (None, Some(routes)) => {
            let inside = |text: &str| text.replace('\n', "\n  ");
            format!(
                "{{\n  \"instance\": {},\n  \"routes\": {}\n}}",
                inside(&policies.instance),
                inside(&routes)
            )
        }
    };
    render::print_bytes(format!("{text}\n").as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn of_file(arguments: &Arguments) -> Result<IamPolicies, Error> {
    let path = arguments.config.clone().unwrap_or_default();
    let config = Config::load_for_another_host(&path).map_err(|error| {
        let next = format!("vipd --check --config {} says more", path.display());
        Error::new(Kind::Usage, error.to_string(), next)
    })?;
    let at = Whereabouts {
        region: arguments.region.clone().or_else(|| config.aws.region.clone()),
        account: arguments.account.clone(),
        enis: config.aws.eni.clone().into_iter().collect(),
    };
    let all = config.iam_policies(&at);
    let text = |policy| render::json(policy).map(|text| text.trim_end().to_owned());
    Ok(IamPolicies { instance: text(&all.instance)?, routes: all.routes.as_ref().map(text).transpose()? })
}
