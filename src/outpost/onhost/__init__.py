"""Small daemons that run on the hosts themselves: standard library only, installed as they stand here."""
