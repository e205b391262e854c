"""The commands as they are declared: arguments, options, help. Each imports what it works with when it runs, so that
`--help` is there at once; what it does is in the modules beside this package, as are `rotate`, `restore`, `user` and its like.
"""
