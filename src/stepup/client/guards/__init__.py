"""Guards: a server asks for the step-up before it runs a method or a view.

Each guard is a module of its own, so that a program imports only its own framework:

- `grpc_server` and `grpc_aio`: interceptors for servers of grpc
- `asgi`: a middleware for any ASGI application or route
- `fastapi`: a dependency for FastAPI
- `flask` and `django`: decorators of views

All guards behave alike. A method runs only after the answer `Allowed`. If the person must give a
code, approve a challenge or enrol first, the guard refuses the call and says so in a form that a
console can act on (`refusals`). If there is no decision, it refuses the call as unavailable.

The person comes from a function of the program, the `actor` of each guard: only the program knows
how its callers have proven who they are. The function returns the `ActorContext`, with a
`challenge_id` if the person has approved one. It may raise an error of the framework, which ends
the call. The id of the request to the service is made by the client, never taken from a caller.
"""

from stepup.client.guards.gates import Gate, allowed, write_method_map

__all__ = ["Gate", "allowed", "write_method_map"]
