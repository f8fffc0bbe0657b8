variable "cluster" {
  description = "The group's name, as in vipd.toml."
  type        = string
  default     = "edge"
}

variable "vpc_id" {
  type = string
}

variable "members" {
  description = "One member a zone. Three survive the loss of one. The private address has to stay: it is in every vipd.toml."
  type = map(object({
    subnet_id  = string
    private_ip = string
  }))
  validation {
    condition     = length(var.members) >= 3 && length(var.members) % 2 == 1
    error_message = "Take an odd number of members, three or more: an even one survives no more losses than one fewer."
  }
}

variable "vips" {
  description = "The overlay addresses, IPv4 with /32 or IPv6 with /128, outside every CIDR of the VPC."
  type        = list(string)
  default     = ["192.168.77.10/32"]
  validation {
    condition     = alltrue([for vip in var.vips : endswith(vip, strcontains(vip, ":") ? "/128" : "/32")])
    error_message = "A VIP is one address: IPv4 with /32, IPv6 with /128."
  }
}

variable "route_table_ids" {
  description = "Every route table whose subnets' clients use the VIP, the most important first. None: those of route_table_tag alone, whose routes are made by their owner, or by vipd with create_missing."
  type        = list(string)
  default     = []
}

variable "route_table_tag" {
  description = "As aws.route_table_tag, split at its first =: the role may change the tables that carry it as well. Their routes and tags are whoever owns the tables'."
  type = object({
    key   = string
    value = string
  })
  default = null
}

variable "client_cidrs" {
  description = "Where clients come from. CIDRs: a reference to a security group does not match traffic to an overlay address."
  type        = list(string)
}

variable "service_ports" {
  description = "What HAProxy listens on."
  type        = list(number)
  default     = [80, 443]
}

variable "operator_cidrs" {
  description = "Where vipctl asks from over the network (admin.listen in vipd.toml). None: the port stays closed."
  type        = list(string)
  default     = []
}

variable "monitoring_cidrs" {
  description = "Where Prometheus scrapes from. None: the port stays closed."
  type        = list(string)
  default     = []
}

variable "additional_security_group_ids" {
  description = "Beside the module's own, on each member's interface: for SSH, or an agent."
  type        = list(string)
  default     = []
}

variable "ami_id" {
  description = "Debian 12 or newer, amd64."
  type        = string
}

variable "instance_type" {
  type    = string
  default = "c7i.large"
}

variable "key_name" {
  type    = string
  default = null
}

variable "user_data" {
  description = "Installs HAProxy and the package of vipd, and writes /etc/vipd/vipd.toml."
  type        = string
  default     = null
}

variable "assume_role_arn" {
  description = "As aws.assume_role_arn: the role by which another account lets vipd change its route tables. The instances may then assume it, and the routes are made over there."
  type        = string
  default     = null
}

variable "tags" {
  description = "On everything that can have tags."
  type        = map(string)
  default     = {}
}

variable "create_missing" {
  description = "true where aws.create_missing is set in vipd.toml: allows ec2:CreateRoute."
  type        = bool
  default     = false
}
