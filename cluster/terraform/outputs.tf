output "network_interfaces" {
  description = "For aws.eni, where IMDS is not asked."
  value       = { for name, eni in aws_network_interface.member : name => eni.id }
}

output "role_arn" {
  value = aws_iam_role.vipd.arn
}

output "members" {
  description = "[[members]] of vipd.toml."
  value = [
    for name, member in var.members : { name = name, peer = "${member.private_ip}:7400" }
  ]
}
