// MemberEnvironment: the world a member is started in. Production hands over the machine, the simulator a model.
using System;
using Cairn.Base;
using Microsoft.Extensions.Logging;

namespace Cairn.Core.Server;

/// <summary>Everything outside a member that it may touch.</summary>
public sealed class MemberEnvironment
{
    public required IFileSystem FileSystem { get; init; }

    public required IClock Clock { get; init; }

    public required IRandom Random { get; init; }

    public required IFatal Fatal { get; init; }

    /// <summary>Buffers of this member alone.</summary>
    public required NativePool Pool { get; init; }

    /// <summary>Must not block the caller: the actors log from their threads.</summary>
    public required ILogger Log { get; init; }

    /// <summary>The way to the other members; null where there are none. It outlives the member's actors.</summary>
    public ITransport? Transport { get; init; }

    /// <summary>Major page faults of the process so far; asked once a second. Null where nothing can be paged out.</summary>
    public Func<long>? MajorFaults { get; init; }
}
