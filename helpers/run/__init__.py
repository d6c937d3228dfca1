"""What a run is: its configuration, the machine it runs on, its folder, and the processes that share its work.

Nothing here knows about SQL, models or training. Every other room may import this one; it imports none of them.
"""
