resource "aws_security_group" "vipd" {
  name_prefix = "vipd-${var.cluster}-"
  description = "HAProxy and vipd of ${var.cluster}"
  vpc_id      = var.vpc_id
  tags        = var.tags
  lifecycle {
    create_before_destroy = true
  }
}

# Clients, by CIDR. Their own groups' egress rules must name the VIP by CIDR as well.
resource "aws_vpc_security_group_ingress_rule" "service" {
  for_each = {
    for pair in setproduct(var.client_cidrs, var.service_ports) : "${pair[0]} ${pair[1]}" => pair
  }
  security_group_id = aws_security_group.vipd.id
  description       = "Clients of the VIP"
  cidr_ipv4         = strcontains(each.value[0], ":") ? null : each.value[0]
  cidr_ipv6         = strcontains(each.value[0], ":") ? each.value[0] : null
  ip_protocol       = "tcp"
  from_port         = each.value[1]
  to_port           = each.value[1]
}

# Members among themselves: addresses of the VPC, so that a reference to the group does match.
resource "aws_vpc_security_group_ingress_rule" "peer" {
  security_group_id            = aws_security_group.vipd.id
  description                  = "Raft"
  referenced_security_group_id = aws_security_group.vipd.id
  ip_protocol                  = "tcp"
  from_port                    = 7400
  to_port                      = 7400
}

# admin.listen: vipctl from elsewhere than the members, by certificate.
resource "aws_vpc_security_group_ingress_rule" "operators" {
  for_each          = toset(var.operator_cidrs)
  security_group_id = aws_security_group.vipd.id
  description       = "Operators"
  cidr_ipv4         = strcontains(each.value, ":") ? null : each.value
  cidr_ipv6         = strcontains(each.value, ":") ? each.value : null
  ip_protocol       = "tcp"
  from_port         = 7401
  to_port           = 7401
}

resource "aws_vpc_security_group_ingress_rule" "metrics" {
  for_each          = toset(var.monitoring_cidrs)
  security_group_id = aws_security_group.vipd.id
  description       = "Prometheus"
  cidr_ipv4         = strcontains(each.value, ":") ? null : each.value
  cidr_ipv6         = strcontains(each.value, ":") ? each.value : null
  ip_protocol       = "tcp"
  from_port         = 9407
  to_port           = 9407
}

# Servers, EC2's endpoint, packages.
resource "aws_vpc_security_group_egress_rule" "all" {
  security_group_id = aws_security_group.vipd.id
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "-1"
}

resource "aws_vpc_security_group_egress_rule" "all_v6" {
  security_group_id = aws_security_group.vipd.id
  cidr_ipv6         = "::/0"
  ip_protocol       = "-1"
}
