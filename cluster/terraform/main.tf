# One instance a zone with HAProxy and vipd, and the VIP's route in every route table. Terraform makes the routes once;
# from then on they are vipd's.

resource "aws_network_interface" "member" {
  for_each        = var.members
  description     = "vipd ${var.cluster} ${each.key}"
  subnet_id       = each.value.subnet_id
  private_ips     = [each.value.private_ip]
  security_groups = concat([aws_security_group.vipd.id], var.additional_security_group_ids)
  # While it is on, EC2 drops what is sent to or from an overlay address.
  source_dest_check = false
  tags              = merge(var.tags, { Name = "vipd-${var.cluster}-${each.key}" })
}

resource "aws_instance" "member" {
  for_each             = var.members
  ami                  = var.ami_id
  instance_type        = var.instance_type
  key_name             = var.key_name
  user_data            = var.user_data
  iam_instance_profile = aws_iam_instance_profile.vipd.name
  network_interface {
    device_index         = 0
    network_interface_id = aws_network_interface.member[each.key].id
  }
  metadata_options {
    http_tokens = "required"
    # 2: a container is one hop away.
    http_put_response_hop_limit = 2
  }
  tags = merge(var.tags, { Name = "vipd-${var.cluster}-${each.key}" })
  lifecycle {
    # A new image replaces one instance after the other by hand, not all at once.
    ignore_changes = [ami, user_data]
  }
}

resource "aws_route" "vip" {
  # In another account's tables a route has to be made by its account, or by vipd with create_missing.
  for_each = {
    for pair in setproduct(var.assume_role_arn == null ? var.route_table_ids : [], var.vips) : "${pair[0]} ${pair[1]}" => pair
  }
  route_table_id              = each.value[0]
  destination_cidr_block      = strcontains(each.value[1], ":") ? null : each.value[1]
  destination_ipv6_cidr_block = strcontains(each.value[1], ":") ? each.value[1] : null
  network_interface_id        = aws_network_interface.member[sort(keys(var.members))[0]].id
  lifecycle {
    # vipd moves it. A plan that moved it back would take the VIP from its owner.
    ignore_changes = [network_interface_id]
  }
}
