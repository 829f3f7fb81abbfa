// MemberHost: one member with its threads and its listeners: the embedding API. Many may live in one process.
//
// Order      bind -> open the data directory -> threads -> ready -> serve. Stop is the reverse: stop accepting and
//            drain, then the member's own stop sequence, then its threads, then its files.
using System;
using System.Collections.Generic;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Core.Protocol;
using Cairn.Core.Server;
using Cairn.Net.Bootstrap;
using Cairn.Net.Http;
using Cairn.Net.Peer;
using Cairn.Net.Rpc;
using Cairn.Net.Services;
using Cairn.Net.Tls;
using Microsoft.Extensions.Logging;

namespace Cairn.Net.Host;

/// <summary>Hosts one member.</summary>
public sealed class MemberHost : IAsyncDisposable
{
    private readonly HostOptions _options;
    private readonly ILoggerFactory _loggers;
    private readonly ILogger _log;
    private readonly IFatal _fatal;
    private readonly BoundSockets _sockets;
    private readonly PeerTransport _transport;
    private readonly PeerMetrics _peers;
    private readonly List<ActorThread> _threads = [];
    private readonly List<FrontEnd> _fronts = [];
    private StreamSet? _streams;
    private int _stopping;

    private MemberHost(
        HostOptions options, ILoggerFactory loggers, IFatal fatal, BoundSockets sockets, Member member,
        PeerTransport transport, PeerMetrics peers)
    {
        _transport = transport;
        _peers = peers;
        _options = options;
        _loggers = loggers;
        _log = loggers.CreateLogger("cairn");
        _fatal = fatal;
        _sockets = sockets;
        Member = member;
        var ports = new List<int>();
        foreach (ListenUrl url in options.ListenClientUrls)
        {
            ports.Add(sockets.PortOf(url));
        }

        ClientPorts = ports;
    }

    /// <summary>The hosted member.</summary>
    public Member Member { get; }

    /// <summary>Ports of <see cref="HostOptions.ListenClientUrls"/>, in their order; of use when they ask for port 0.</summary>
    public IReadOnlyList<int> ClientPorts { get; }

    /// <summary>Completes when the member has stopped, by itself or by <see cref="StopAsync"/>.</summary>
    public Task Ended => Member.Stopped;

    /// <summary>
    /// Binds every address, asks others what a bootstrap needs to know, and opens the data directory. Nothing runs yet.
    /// Blocks; with discovery, for as long as the other members take.
    /// </summary>
    /// <exception cref="ListenException">An address cannot be bound.</exception>
    /// <exception cref="MemberStartException">The directory or the options do not allow a start.</exception>
    /// <exception cref="OperationCanceledException">Cancelled while it waited.</exception>
    public static MemberHost Open(
        HostOptions options, ILoggerFactory loggers, IFatal fatal, CancellationToken cancelled = default)
    {
        var sockets = new BoundSockets();
        PeerTransport? transport = null;
        try
        {
            TlsEndpoint tls = PeerCertificates(options, loggers.CreateLogger("cairn"));

            // Peers first, as etcd does: the first busy port decides the message.
            foreach (IReadOnlyList<ListenUrl> urls in new[]
            {
                options.ListenPeerUrls, options.ListenClientUrls, options.ListenClientHttpUrls, options.ListenMetricsUrls,
            })
            {
                foreach (ListenUrl url in urls)
                {
                    sockets.Bind(url);
                }
            }

            LogStart(options, loggers.CreateLogger("cairn"));
            MemberOptions bootstrapped = new Bootstrapper(options, tls, options.FileSystem, loggers.CreateLogger("server"))
                .RunAsync(cancelled).GetAwaiter().GetResult();
            options = options with { Member = bootstrapped };
            transport = new PeerTransport(TransportOptions(options, tls, loggers, fatal, sockets));
            var environment = new MemberEnvironment
            {
                Transport = transport,
                FileSystem = options.FileSystem,
                Clock = SystemClock.Instance,
                Random = new SystemRandom(),
                Fatal = fatal,
                Pool = new NativePool(),
                Log = loggers.CreateLogger("server"),
                MajorFaults = ProcessUsage.MajorFaults,
            };
            var member = Member.Open(options.Member, environment);
            transport.Options.Pages = new PeerPages(member, SystemClock.Instance).ServeAsync;
            var peers = new PeerMetrics(transport);
            transport.Options.Observer = peers;
            return new MemberHost(options, loggers, fatal, sockets, member, transport, peers);
        }
        catch
        {
            transport?.Dispose();
            sockets.Dispose();
            throw;
        }
    }

    /// <summary>Starts the threads, waits until the member is ready, and serves.</summary>
    public async Task StartAsync()
    {
        foreach (MemberActor actor in Member.Actors)
        {
            var thread = new ActorThread(actor.Actor, SystemClock.Instance, _fatal, _options.BusyPoll);
            actor.Attach(thread);
            _threads.Add(thread);
        }

        // With busy polling nobody ever sleeps, so nothing could be borrowed.
        if (!_options.BusyPoll)
        {
            int watch = 0;
            while (!ReferenceEquals(Member.Actors[watch].Actor, Member.Watch))
            {
                watch++;
            }

            Member.Carrier = new Carrier([_threads[0], _threads[1], _threads[2]], guest: _threads[watch]);
        }

        foreach (ActorThread thread in _threads)
        {
            thread.Start();
        }

        _transport.Start();
        _ = await Task.WhenAny(Member.Ready, Member.Stopped);
        if (Member.Ready.IsCompleted && Volatile.Read(ref _stopping) == 0)
        {
            await ServeAsync();
        }
    }

    /// <summary>Stops serving, then the member. Idempotent; the first call decides.</summary>
    public async Task StopAsync()
    {
        if (Interlocked.Exchange(ref _stopping, 1) != 0)
        {
            await Member.Stopped;
            return;
        }

        // Streams would never end by themselves.
        (int code, string message) = Errors.Get(ErrorCode.Stopped);
        _streams?.Close((RpcCode)code, message);

        // Running calls get as long as a request may take; then their connections are cut.
        using (var patience = new CancellationTokenSource(TimeSpan.FromMilliseconds(_options.Member.RequestTimeoutNs / 1_000_000)))
        {
            foreach (FrontEnd front in _fronts)
            {
                await front.StopAsync(patience.Token);
            }
        }

        if (_threads.Count != 0)
        {
            Member.BeginStop();
            await Member.Stopped;
        }

        foreach (ActorThread thread in _threads)
        {
            thread.Stop();
        }

        _transport.Dispose();

        foreach (FrontEnd front in _fronts)
        {
            await front.DisposeAsync();
        }

        _sockets.Dispose();
        Member.Dispose();
    }

    public async ValueTask DisposeAsync() => await StopAsync();

    // In etcd's order: flags and files before anything listens. What is wrong ends the start in its words.
    private static TlsEndpoint PeerCertificates(HostOptions options, ILogger log)
    {
        TlsOptions tls = options.PeerTls;
        bool isSecure = false;
        var hosts = new List<string>();
        foreach (ListenUrl url in options.ListenPeerUrls)
        {
            isSecure |= url.IsSecure;
            hosts.Add(url.Host);
        }

        try
        {
            if (tls.AutoTls && tls.IsEmpty)
            {
                string directory = System.IO.Path.Combine(options.Member.DataDir, "fixtures", "peer");
                tls = SelfSigned.Use(tls, directory, hosts, SystemClock.Instance, out bool made);
                if (made)
                {
                    HostLog.SelfSigned(log, directory);
                }
            }
            else if (tls.AutoTls)
            {
                HostLog.IgnoringAutoTls(log);
                tls = tls with { AutoTls = false };
            }

            foreach (ListenUrl url in options.ListenPeerUrls)
            {
                if (!url.IsSecure && !tls.IsEmpty)
                {
                    HostLog.IgnoringCertificates(log, url.Text);
                }

                if (!url.IsSecure && tls.ClientCertAuth)
                {
                    HostLog.IgnoringClientAuth(log, url.Text);
                }

                if (url.IsSecure && tls.IsEmpty)
                {
                    throw new TlsException(
                        "cannot listen on TLS for " + url.Authority + ": KeyFile and CertFile are not presented");
                }
            }

            var endpoint = new TlsEndpoint(tls);
            if (isSecure)
            {
                endpoint.Verify();
            }

            return endpoint;
        }
        catch (TlsException e)
        {
            throw new MemberStartException(e.Message, e);
        }
    }

    private static PeerTransportOptions TransportOptions(
        HostOptions options, TlsEndpoint tls, ILoggerFactory loggers, IFatal fatal, BoundSockets sockets)
    {
        var listeners = new List<Socket>();
        var secure = new List<Socket>();
        foreach (ListenUrl url in options.ListenPeerUrls)
        {
            (url.IsSecure ? secure : listeners).Add(sockets.Take(BoundSockets.EndPointOf(url)));
        }

        return new PeerTransportOptions
        {
            Clock = SystemClock.Instance,
            Random = new SystemRandom(),
            Fatal = fatal,
            Log = loggers.CreateLogger("peer"),
            Listeners = listeners,
            SecureListeners = secure,
            Tls = tls,
            AdvertisedUrls = options.Member.InitialAdvertisePeerUrls,
            DialTimeout = TimeSpan.FromSeconds(1) + TimeSpan.FromMilliseconds(options.Member.ElectionMs),
            ReadTimeout = options.PeerReadTimeout,
            WriteTimeout = options.PeerWriteTimeout,
        };
    }

    private static void LogStart(HostOptions options, ILogger log)
    {
        if (!log.IsEnabled(LogLevel.Information))
        {
            return;
        }

        MemberOptions member = options.Member;
        var cluster = new List<string>();
        foreach (InitialMember initial in member.InitialCluster)
        {
            foreach (string url in initial.PeerUrls)
            {
                cluster.Add(initial.Name + "=" + url);
            }
        }

        string initialCluster = string.Join(',', cluster);
        string peers = Texts(options.ListenPeerUrls);
        string clients = Texts(options.ListenClientUrls);
        string advertised = string.Join(',', member.AdvertiseClientUrls);
        HostLog.Starting(
            log, member.ServerVersion, options.CairnVersion, Environment.ProcessorCount, member.Name, member.DataDir,
            member.WalDir ?? "", member.SnapshotCount, member.HeartbeatMs, member.ElectionMs, initialCluster, peers,
            clients, advertised, member.EffectiveQuotaBytes, member.MaxRequestBytes);
    }

    private static string Texts(IReadOnlyList<ListenUrl> urls)
    {
        var texts = new List<string>(urls.Count);
        foreach (ListenUrl url in urls)
        {
            texts.Add(url.Text);
        }

        return string.Join(',', texts);
    }

    private async Task ServeAsync()
    {
        var port = new MemberPort(Member, SystemClock.Instance);
        var slow = new SlowWorker();
        var slowThread = new ActorThread(slow, SystemClock.Instance, _fatal);
        slow.Attach(slowThread);
        _threads.Add(slowThread);
        slowThread.Start();
        RpcServerState rpc = new()
        {
            Table = _options.NullMethods
                ? NullService.AddTo(ServiceTable.Build(port, slow))
                : ServiceTable.Build(port, slow),
            WarningUnaryNs = _options.WarningUnaryNs,
            Clock = SystemClock.Instance,
            Logger = _loggers.CreateLogger("rpc"),
            MaxMessageSize = _options.Limits.MaxMessageBytes,
        };
        _streams = rpc.Streams;
        StartThread(new StreamGuard(port, rpc.Streams));
        var pages = new HttpPages(port, _options, new ServerMetrics(port, _options, rpc, _peers));
        bool split = _options.ListenClientHttpUrls.Count != 0;
        await AddAsync(_options.ListenMetricsUrls, null, pages.ServeMetricsAsync);
        await AddAsync(_options.ListenClientHttpUrls, null, pages.ServeClientAsync);
        await AddAsync(_options.ListenClientUrls, rpc, split ? null : pages.ServeClientAsync);
        foreach (ListenUrl url in _options.ListenClientUrls)
        {
            HostLog.Serving(_log, url.Text);
        }

        HostLog.Ready(_log);
    }

    private void StartThread(IActor actor)
    {
        var thread = new ActorThread(actor, SystemClock.Instance, _fatal);
        _threads.Add(thread);
        thread.Start();
    }

    private async Task AddAsync(IReadOnlyList<ListenUrl> urls, RpcServerState? rpc, HttpHandler? pages)
    {
        if (urls.Count == 0)
        {
            return;
        }

        var front = new FrontEnd(_options.Limits, rpc, pages, _sockets, _loggers, _options.Engine, _fatal);
        foreach (ListenUrl url in urls)
        {
            front.Listen(url);
        }

        _fronts.Add(front);
        await front.StartAsync(CancellationToken.None);
    }
}
