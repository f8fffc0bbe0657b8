data "aws_region" "here" {}
data "aws_caller_identity" "here" {}
data "aws_partition" "here" {}

locals {
  # ReplaceRoute, and CreateRoute where vipd.toml asks for it.
  change = var.create_missing ? ["ec2:ReplaceRoute", "ec2:CreateRoute"] : ["ec2:ReplaceRoute"]
  arn    = "arn:${data.aws_partition.here.partition}:ec2:${data.aws_region.here.name}:${data.aws_caller_identity.here.account_id}"
}

# EC2 cannot limit ReplaceRoute to one destination: the role may change any route of these tables. It knows no narrower
# resource than * for Describe.
data "aws_iam_policy_document" "routes" {
  statement {
    sid = "Look"
    # The tables are the other account's where a role is assumed; the members' own interfaces never are.
    actions   = concat(["ec2:DescribeNetworkInterfaces"], var.assume_role_arn == null ? ["ec2:DescribeRouteTables"] : [])
    resources = ["*"]
  }
  # Tables by tag alone: a statement without resources would make the policy invalid.
  dynamic "statement" {
    for_each = var.assume_role_arn == null && length(var.route_table_ids) > 0 ? [1] : []
    content {
      sid       = "Swap"
      actions   = local.change
      resources = [for id in var.route_table_ids : "${local.arn}:route-table/${id}"]
    }
  }
  # As vipctl iam-policy prints it: whoever may tag a table then says that vipd may change it.
  dynamic "statement" {
    for_each = var.assume_role_arn == null && var.route_table_tag != null ? [var.route_table_tag] : []
    content {
      sid       = "SwapByTag"
      actions   = local.change
      resources = ["${local.arn}:route-table/*"]
      condition {
        test     = "StringEquals"
        variable = "aws:ResourceTag/${statement.value.key}"
        values   = [statement.value.value]
      }
    }
  }
  # The route tables are another account's: what concerns them is that role's (vipctl iam-policy --role routes).
  dynamic "statement" {
    for_each = var.assume_role_arn == null ? [] : [var.assume_role_arn]
    content {
      sid       = "AssumeRoutes"
      actions   = ["sts:AssumeRole"]
      resources = [statement.value]
    }
  }
}

data "aws_iam_policy_document" "instances" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "vipd" {
  name_prefix        = "vipd-${var.cluster}-"
  assume_role_policy = data.aws_iam_policy_document.instances.json
  tags               = var.tags
}

resource "aws_iam_role_policy" "routes" {
  name   = "routes"
  role   = aws_iam_role.vipd.id
  policy = data.aws_iam_policy_document.routes.json
}

resource "aws_iam_instance_profile" "vipd" {
  name_prefix = "vipd-${var.cluster}-"
  role        = aws_iam_role.vipd.name
  tags        = var.tags
}
