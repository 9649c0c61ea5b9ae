# What an archive holds, flat: path in the archive => path in the tree. This file needs no provider and no
# variable, so the tests have Terraform itself evaluate it (tests/support/archives.py).
locals {
  tree = abspath("${path.module}/..")

  # The local stack, the operator commands and their reports stay at home; so do caches and dotfiles.
  core_files = [
    for file in fileset(local.tree, "core/**") : file
    if !can(regex("^core/(local|ops|reports)/|__pycache__/|(^|/)\\.", file))
  ]
  archive_files = {
    for name in ["webhook", "turn"] : name => merge(
      { for file in ["main.py", "requirements.txt"] : file => "functions/${name}/${file}" },
      { for file in local.core_files : file => file },
    )
  }
}
