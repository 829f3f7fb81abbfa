// RpcMethod: one entry of the table from path to handler, with the counters that the metrics page shows.
// Thread: counters are bumped by any I/O thread (interlocked) and read by the metrics page.
using System.Threading;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Core.Protocol;

namespace Cairn.Net.Rpc;

/// <summary>Which side of a call is a stream.</summary>
public enum RpcKind
{
    Unary,
    ClientStream,
    ServerStream,
    BidiStream,
}

/// <summary>
/// Serves one call. The handler answers through the call; a returned call without a written message and without
/// <see cref="RpcCall.Fail(RpcCode, string)"/> is a bug and answers INTERNAL. Exceptions answer INTERNAL and are logged.
/// </summary>
public delegate ValueTask RpcHandler(RpcCall call);

/// <summary>
/// Serves one unary call in steps: a step starts a wait and names what to do with its outcome. The steps of a call
/// share one state machine (the transport's), where an async method would add its own: at a hundred calls in
/// flight the runtime's pools of those run dry, and every put would allocate.
/// </summary>
public delegate RpcStep RpcStepHandler(RpcCall call);

/// <summary>Goes on with a call after a wait.</summary>
public delegate RpcStep RpcResume(RpcCall call, object state, ErrorCode outcome);

/// <summary>What a call waits for, if anything.</summary>
/// <param name="Wait">The wait.</param>
/// <param name="Resume">What follows; null when the call has been answered or failed.</param>
/// <param name="State">For <paramref name="Resume"/>.</param>
public readonly record struct RpcStep(ValueTask<ErrorCode> Wait, RpcResume? Resume, object? State)
{
    /// <summary>Nothing more to do.</summary>
    public static RpcStep Done => default;
}

/// <summary>A method of a service.</summary>
public sealed class RpcMethod
{
    private readonly long[] _handled = new long[RpcCodes.Count];
    private long _started;
    private long _received;
    private long _sent;

    /// <summary>Describes a method; <paramref name="handler"/> is null while no one serves it yet.</summary>
    public RpcMethod(string service, string name, RpcKind kind, RpcHandler? handler, RpcStepHandler? steps = null)
    {
        Steps = steps;
        Service = service;
        Name = name;
        Kind = kind;
        Handler = handler;
        Path = "/" + service + "/" + name;
    }

    /// <summary>Full service name, such as <c>etcdserverpb.KV</c>.</summary>
    public string Service { get; }

    /// <summary>Short method name.</summary>
    public string Name { get; }

    /// <summary>The HTTP/2 path.</summary>
    public string Path { get; }

    public RpcKind Kind { get; }

    /// <summary>Null: a place kept for a later part of the server; answered like a method that does not exist.</summary>
    public RpcHandler? Handler { get; }

    /// <summary>The hot form of <see cref="Handler"/>; one of the two is set on a served method.</summary>
    public RpcStepHandler? Steps { get; }

    /// <summary>
    /// A unary call that may last as long as a stream (a lock that is waited for): it has what
    /// <see cref="RpcCall"/> keeps for streams, and ends with them when the server stops.
    /// </summary>
    public bool IsLong { get; init; }

    /// <summary>Its handler may sleep and is ended from outside.</summary>
    public bool MayWait => Kind != RpcKind.Unary || IsLong;

    /// <summary>
    /// The handler of this stream does little between two waits and may therefore go on where its wait ends: on an I/O
    /// thread that serves others as well, if the engine has such. Otherwise it always goes on in the pool.
    /// </summary>
    public bool ContinuesInPlace { get; init; }

    /// <summary>True when somebody serves it.</summary>
    public bool IsServed => Handler is not null || Steps is not null;

    /// <summary>True when the client sends exactly one message.</summary>
    public bool HasSingleRequest => Kind is RpcKind.Unary or RpcKind.ServerStream;

    /// <summary>The <c>grpc_type</c> label.</summary>
    public string KindLabel => Kind switch
    {
        RpcKind.Unary => "unary",
        RpcKind.ClientStream => "client_stream",
        RpcKind.ServerStream => "server_stream",
        _ => "bidi_stream",
    };

    /// <summary>How long calls took, in ns; null unless somebody wants to know (--metrics=extensive).</summary>
    public SharedDistribution? Durations { get; set; }

    public long Started => Volatile.Read(ref _started);

    public long MessagesReceived => Volatile.Read(ref _received);

    public long MessagesSent => Volatile.Read(ref _sent);

    /// <summary>Calls that ended with the code.</summary>
    public long Handled(RpcCode code) => Volatile.Read(ref _handled[(int)code]);

    internal void CountStarted() => Interlocked.Increment(ref _started);

    internal void CountReceived() => Interlocked.Increment(ref _received);

    internal void CountSent(int messages)
    {
        if (messages != 0)
        {
            Interlocked.Add(ref _sent, messages);
        }
    }

    internal void CountHandled(RpcCode code) => Interlocked.Increment(ref _handled[(int)code]);
}
