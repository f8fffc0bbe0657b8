//! The least AWS policy that this configuration needs: what `vipctl iam-policy` prints.
//!
//! EC2 limits ReplaceRoute and CreateRoute to route tables, by ARN or by tag; it knows no resource for one route
//! of a table (Service Authorization Reference, "Actions, resources, and condition keys for Amazon EC2"). Whoever
//! has the role can change every route of those tables.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Config, SourceDestCheck};
use crate::model::EniId;

/// What the file does not say. Each `None` becomes a `*`: wider than need be, never too narrow.
#[derive(Clone, Debug, Default)]
pub struct Whereabouts {
    pub region: Option<String>,
    /// The account that owns the route tables.
    pub account: Option<String>,
    /// The ENIs of all members: their hosts may share one role.
    pub enis: Vec<EniId>,
}

/// The policies of one group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Policies {
    /// For the role of the members' instances.
    pub instance: Policy,
    /// For `aws.assume_role_arn`; without it the instances' role does everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routes: Option<Policy>,
}

/// An IAM policy document.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Policy {
    version: &'static str,
    statement: Vec<Statement>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Statement {
    sid: &'static str,
    effect: &'static str,
    action: Vec<&'static str>,
    resource: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    condition: Option<Condition>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Condition {
    string_equals: BTreeMap<String, String>,
}

/// The version of IAM's policy language; there is no newer one.
const LANGUAGE: &str = "2012-10-17";

impl Config {
    /// The least policies for this file. DeleteRoute is never among them.
    pub fn iam_policies(&self, at: &Whereabouts) -> Policies {
        let checks = self.aws.source_dest_check != SourceDestCheck::Ignore;
        let own = checks.then_some("ec2:DescribeNetworkInterfaces");
        let tables = "ec2:DescribeRouteTables";
        let look = |action| statement("Look", action, vec!["*".to_owned()]);
        match &self.aws.assume_role_arn {
            None => {
                let look = look(own.into_iter().chain([tables]).collect());
                let rest = self.routes(at).into_iter().chain(self.fix(at));
                Policies { instance: policy([look].into_iter().chain(rest).collect()), routes: None }
            }
            // The member's own interface is the instance's, whoever owns the tables.
            Some(role) => {
                let assume = statement("AssumeRole", vec!["sts:AssumeRole"], vec![role.clone()]);
                let own = own.map(|action| look(vec![action]));
                let instance = [assume].into_iter().chain(own).chain(self.fix(at));
                let routes = [look(vec![tables])].into_iter().chain(self.routes(at));
                Policies { instance: policy(instance.collect()), routes: Some(policy(routes.collect())) }
            }
        }
    }

    fn fix(&self, at: &Whereabouts) -> Option<Statement> {
        if self.aws.source_dest_check != SourceDestCheck::Fix {
            return None;
        }
        // The account of the tables is not the instance's, where a role is assumed.
        let account = at.account.as_ref().filter(|_| self.aws.assume_role_arn.is_none());
        let arn = |id: &str| arn(at.region.as_deref(), account, "network-interface", id);
        let mut enis: Vec<_> = at.enis.iter().map(|eni| arn(eni.as_str())).collect();
        if enis.is_empty() {
            enis.push(arn("*"));
        }
        Some(statement("FixSourceDestCheck", vec!["ec2:ModifyNetworkInterfaceAttribute"], enis))
    }

    /// What changes routes: for the listed tables, and for those with the tag.
    fn routes(&self, at: &Whereabouts) -> Vec<Statement> {
        let aws = &self.aws;
        let assumed = aws.assume_role_arn.as_deref().and_then(|role| role.split(':').nth(4));
        let account = assumed.map(str::to_owned).or_else(|| at.account.clone());
        let arn = |id: &str| arn(at.region.as_deref(), account.as_ref(), "route-table", id);
        let mut action = vec!["ec2:ReplaceRoute"];
        if aws.create_missing {
            action.push("ec2:CreateRoute");
        }
        let mut all = Vec::new();
        if !aws.route_tables.is_empty() {
            let tables = aws.route_tables.iter().map(|table| arn(table.as_str())).collect();
            all.push(statement("Swap", action.clone(), tables));
        }
        if let Some((key, value)) = &aws.route_table_tag {
            let tagged = BTreeMap::from([(format!("aws:ResourceTag/{key}"), value.clone())]);
            let condition = Some(Condition { string_equals: tagged });
            all.push(Statement { condition, ..statement("SwapByTag", action, vec![arn("*")]) });
        }
        all
    }
}

fn policy(statement: Vec<Statement>) -> Policy {
    Policy { version: LANGUAGE, statement }
}

fn statement(sid: &'static str, action: Vec<&'static str>, resource: Vec<String>) -> Statement {
    Statement { sid, effect: "Allow", action, resource, condition: None }
}

fn arn(region: Option<&str>, account: Option<&String>, kind: &str, id: &str) -> String {
    let partition = match region {
        Some(region) if region.starts_with("cn-") => "aws-cn",
        Some(region) if region.starts_with("us-gov-") => "aws-us-gov",
        Some(_) | None => "aws",
    };
    let (region, account) = (region.unwrap_or("*"), account.map_or("*", String::as_str));
    format!("arn:{partition}:ec2:{region}:{account}:{kind}/{id}")
}
