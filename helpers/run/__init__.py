"""What a run is: its configuration, the machine it runs on, its folder, and the processes that share its work.

No code here runs SQL, loads models or trains. Every other room may import this one; it imports none of them.
"""
