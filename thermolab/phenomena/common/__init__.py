"""What several phenomena share: closed forms of linear networks, checks of settings, feedback to students, what is kept."""
